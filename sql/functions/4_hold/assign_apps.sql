create or replace function scheduler.assign_apps(
    p_dead_after interval default null, p_rebalance boolean default false, p_search boolean default true,
    out moved integer, out next_in interval
)
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
    v_now     timestamptz := scheduler.clock();
    v_servers bigint[];  -- who is alive
    v_gone    bigint[];  -- owners who are not; 0 among them, which stands for nobody
    v_loads   bigint[];  -- of v_servers
    v_average bigint;
    v_apps    text[];    -- what is to move, from whom, to whom
    v_owners  bigint[];
    v_targets bigint[];
    v_app     record;
    v_from    integer;
    v_to      integer;
    v_count   integer;
begin
    -- Gives each app that has jobs one living server, which alone plans it from now on, under a new and greater epoch.
    -- Declares servers dead that were silent for p_dead_after (null: none; nor for the time PostgreSQL itself was down),
    -- and gives what they owned, and apps that are new, to the least loaded. With p_rebalance also takes apps from the
    -- overloaded, when a server is more than a fifth off the average: the excess and no more, the heaviest first, so that
    -- as few as possible move and small differences move none.
    -- Without p_search it does not look for apps that are new, and waits not even for who alters the tables of jobs.
    -- Any server may call it at any time. One is at work at a time, the others get null and may come back. It waits for
    -- nobody: an app whose plan is being written just now stays with its owner until the next call.
    -- Returns how many apps moved and when to call again: a server may be declared dead then, or an app was passed over.
    -- No safety rests on it: a server that plans an app which it lost is refused by the epoch, and of two that plan one
    -- instant one by the ledger's key.
    if not pg_try_advisory_xact_lock(7716804) then
        return;
    end if;
    moved := 0;
    update scheduler.server s set dead_at = v_now
    where s.dead_at is null and s.stopped_at is null
        and greatest(s.seen_at, pg_postmaster_start_time()) < v_now - p_dead_after;
    select coalesce(array_agg(s.id order by s.id), '{}'),
        min(greatest(s.seen_at, pg_postmaster_start_time())) + p_dead_after - v_now
    into v_servers, next_in
    from scheduler.server s
    where s.dead_at is null and s.stopped_at is null;

    if p_search then
        insert into scheduler.owner (app, weight)
        select n.app, w.weight
        from scheduler.apps_with_new_jobs() n
        cross join lateral scheduler.weight_of(n.app) w
        where (select o.app from scheduler.owner o where o.app = n.app) is null;
    end if;
    if p_search and p_rebalance then
        -- All there are: those whose jobs are on demand have nothing that is looked for.
        insert into scheduler.owner (app, weight)
        with recursive known (app) as (
            (select s.app from scheduler.job_schedule s order by s.app, s.job limit 1)
            union all
            select n.app
            from known k
            cross join lateral (
                select s.app from scheduler.job_schedule s where s.app > k.app order by s.app, s.job limit 1
            ) n
        )
        select k.app, w.weight
        from known k
        cross join lateral scheduler.weight_of(k.app) w
        where (select o.app from scheduler.owner o where o.app = k.app) is null;
    end if;

    with recursive owning (server) as (
        (select o.server from scheduler.owner o order by o.server limit 1)
        union all
        select n.server
        from owning p
        cross join lateral (
            select o.server from scheduler.owner o where o.server > p.server order by o.server limit 1
        ) n
    )
    select array_agg(p.server) into v_gone from owning p where p.server <> all (v_servers);
    if v_servers = '{}' or v_gone is null and not p_rebalance then
        return;
    end if;
    select array_agg(l.load order by s.place) into v_loads
    from unnest(v_servers) with ordinality s (id, place)
    cross join lateral (
        select coalesce(sum(o.weight), 0)::bigint as load from scheduler.owner o where o.server = s.id offset 0
    ) l;

    -- First what has no owner. Then an excess that fits into what another has less than the average: so each app moves
    -- once. Then, if a server is far off nevertheless because its apps are few and heavy, what brings it and another closer.
    for v_round in 1 .. case when p_rebalance then 3 else 1 end loop
        select sum(l.load)::bigint / cardinality(v_servers) into v_average from unnest(v_loads) l (load);  -- rounded down
        exit when v_round > 1 and scheduler.is_balanced(v_loads, v_average);
        v_apps := '{}';
        v_owners := '{}';
        v_targets := '{}';
        for v_app in
            select o.app, o.weight, o.server
            from unnest(case when v_round = 1 then v_gone else v_servers end) with ordinality s (id, place)
            cross join lateral (select * from scheduler.owner o where o.server = s.id offset 0) o
            where v_round = 1 or v_loads[s.place] > v_average
            order by o.weight desc, o.app
        loop
            v_to := 1;
            for v_place in 2 .. cardinality(v_servers) loop
                if v_loads[v_place] < v_loads[v_to] then
                    v_to := v_place;
                end if;
            end loop;
            if v_round > 1 then
                exit when v_loads[v_to] >= v_average;
                v_from := array_position(v_servers, v_app.server);
                if v_round = 2 then
                    continue when v_app.weight > least(v_loads[v_from] - v_average, v_average - v_loads[v_to]);
                else
                    continue when v_app.weight >= v_loads[v_from] - v_loads[v_to]
                        or scheduler.is_balanced(v_loads, v_average);
                end if;
                v_loads[v_from] := v_loads[v_from] - v_app.weight;
            end if;
            v_loads[v_to] := v_loads[v_to] + v_app.weight;
            v_apps := array_append(v_apps, v_app.app);
            v_owners := array_append(v_owners, v_app.server);
            v_targets := array_append(v_targets, v_servers[v_to]);
        end loop;
        with held as materialized (
            select o.place, m.target
            from unnest(v_apps, v_owners, v_targets) m (app, owner, target)
            cross join lateral (
                select o.ctid as place from scheduler.owner o where o.app = m.app and o.server = m.owner
                for update skip locked
            ) o
        )
        update scheduler.owner o set server = h.target, epoch = nextval('scheduler.epoch')
        from held h
        where o.ctid = h.place;
        get diagnostics v_count = row_count;
        moved := moved + v_count;
        if v_count < cardinality(v_apps) then
            next_in := interval '50 milliseconds';
        end if;
    end loop;
    if moved > 0 then
        perform pg_notify('scheduler_job', 'assigned');
    end if;
end
$$;
comment on function scheduler.assign_apps(interval, boolean, boolean) is
    'Gives each app one living server, moving as few as possible.';
