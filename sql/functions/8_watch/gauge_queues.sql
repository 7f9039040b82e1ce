create or replace function scheduler.gauge_queues(
    p_server bigint, p_after_app text, p_after_queue text, p_limit integer, p_counted integer
) returns table (app text, queue text, pending bigint, keyed bigint, oldest_due double precision)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_now     timestamptz := scheduler.clock();
    v_alive   bigint[] := array(
        select s.id from scheduler.server s where s.dead_at is null and s.stopped_at is null order by s.id
    );
    v_is_heir boolean := p_server = v_alive[1];
begin
    -- The next p_limit queues that hold runs behind a place; of those that the server answers for, how many runs wait there
    -- (without and with a concurrency key, each counted up to p_counted and then one more), and for how many seconds the
    -- oldest due one has. It answers for the apps it owns; for those without an owner, the eldest server does. Of queues
    -- of others the numbers are null: they are a part of the answer because the last row is the place to go on from.
    -- By loose walks over indexes: what it reads is bounded by the two numbers, however many runs there are.
    return query
    with recursive pair (app, queue, nr) as (
        select p_after_app, p_after_queue, 0
        union all
        select n.app, n.queue, p.nr + 1
        from pair p
        cross join lateral (
            select o.app, o.queue
            from (
                (
                    select r.app::text as app, r.queue::text as queue from scheduler.run r
                    where r.concurrency_key is null and (r.app, r.queue) > (p.app, p.queue)
                    order by r.app, r.queue, r.priority, r.executor, r.run_at, r.id limit 1
                )
                union all
                (
                    select r.app::text, r.queue::text from scheduler.run r
                    where r.concurrency_key is not null and (r.app, r.queue) > (p.app, p.queue)
                    order by r.app, r.queue, r.concurrency_key, r.priority, r.executor, r.run_at, r.id limit 1
                )
            ) o
            order by o.app, o.queue
            limit 1
        ) n
        where p.nr < p_limit
    ), asked as materialized (
        select p.app, p.queue, p.nr, o.server = p_server or (v_is_heir and o.server <> all (v_alive)) as is_ours
        from pair p
        cross join lateral (
            select coalesce((select o.server from scheduler.owner o where o.app = p.app), 0) as server
        ) o
        where p.nr > 0
    )
    select a.app, a.queue, case when a.is_ours then u.pending end, case when a.is_ours then k.pending end,
        case when a.is_ours then extract(epoch from v_now - least(d.run_at, e.run_at))::float8 end
    from asked a
    cross join lateral (
        select count(*) as pending
        from (
            select from scheduler.run r
            where a.is_ours and r.app = a.app and r.queue = a.queue and r.concurrency_key is null
            order by r.priority, r.executor, r.run_at, r.id
            limit p_counted + 1
        ) c
    ) u
    cross join lateral (
        select count(*) as pending
        from (
            select from scheduler.run r
            where a.is_ours and r.app = a.app and r.queue = a.queue and r.concurrency_key is not null
            order by r.concurrency_key, r.priority, r.executor, r.run_at, r.id
            limit p_counted + 1
        ) c
    ) k
    cross join lateral (
        select min(l.run_at) as run_at from scheduler.lanes(a.app, a.queue) l where a.is_ours and l.run_at <= v_now
    ) d
    cross join lateral (
        with recursive lane (executor, run_at) as (
            (
                select r.executor, r.run_at from scheduler.run r
                where a.is_ours and r.app = a.app and r.queue = a.queue and r.concurrency_key is not null
                order by r.executor, r.run_at limit 1
            )
            union all
            select n.executor, n.run_at
            from lane l
            cross join lateral (
                select r.executor, r.run_at from scheduler.run r
                where r.app = a.app and r.queue = a.queue and r.concurrency_key is not null and r.executor > l.executor
                order by r.executor, r.run_at limit 1
            ) n
        )
        select min(l.run_at) as run_at from lane l where l.run_at <= v_now
    ) e
    order by a.nr;
end
$$;
comment on function scheduler.gauge_queues(bigint, text, text, integer, integer) is
    'How much waits in the queues that a server answers for, and for how long.';
