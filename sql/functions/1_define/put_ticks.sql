create or replace function scheduler.put_ticks(
    p_app text, p_items text[], p_at timestamptz[], p_values text[], p_topic text default 'ticks'
) returns integer
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_items  text[];
    v_at     timestamptz[];
    v_values text[];
    v_held   bigint[];
    v_lease  record;
    v_runs   bigint[];
begin
    -- Writes ticks: of each item one run that sends p_values to a topic, with the item as key, at its instant. A tick of
    -- the item that waits moves: the same run, with another instant and value. One that is just being sent does not: a
    -- new one takes its unique key, and its cancellation is asked for, so that it is not sent again when it fails; it
    -- may arrive as well. The arrays run parallel, and of an item that comes twice the last counts. Returns how many.
    -- Whoever writes ticks of an app takes its turn, so two posts of one item do not meet; batches are what makes it fast.
    perform pg_advisory_xact_lock(7716804, hashtext(p_app));
    v_items := p_items;
    v_at := p_at;
    v_values := p_values;
    if cardinality(p_items) > (select count(*) from (select from unnest(p_items) as u (item) group by u.item) t) then
        select array_agg(t.item), array_agg(t.at), array_agg(t.value) into v_items, v_at, v_values
        from (
            select distinct on (u.item) u.item, u.at, u.value
            from unnest(p_items, p_at, p_values) with ordinality as u (item, at, value, nr)
            order by u.item, u.nr desc
        ) t;
    end if;
    for v_look in 1..20 loop
        with tick as materialized (
            select t.item, t.at, t.value,
                (select k.run_id from scheduler.run_key k where k.app = p_app and k.unique_key = t.item) as held
            from unnest(v_items, v_at, v_values) as t (item, at, value)
        ), moved as (
            delete from scheduler.run r
            where r.app = p_app and r.id = any (array(select t.held from tick t where t.held is not null))
            returning r.id
        ), written as (
            -- Kafka may be away for an hour: nothing is given up before.
            insert into scheduler.run (
                app, id, executor, spec, run_at, unique_key, max_attempts, retry_delay, retry_max_delay
            )
            select p_app, coalesce(t.held, nextval('scheduler.run_id')), 'kafka',
                jsonb_build_object('topic', p_topic, 'key', t.item, 'value', t.value), t.at, t.item, 100,
                interval '1 second', interval '1 minute'
            from tick t
            where t.held is null or t.held in (select m.id from moved m)
        )
        select array_agg(t.item), array_agg(t.at), array_agg(t.value), array_agg(t.held)
        into v_items, v_at, v_values, v_held
        from tick t
        where t.held is not null and t.held not in (select m.id from moved m);
        if v_items is null then
            return cardinality(p_items);
        end if;
        -- What is left is in a worker's hands, or has just ended. What nobody has started comes back, and moves with the
        -- next look; what was started goes on without the key. (Locks: run, lease, as everywhere.)
        for v_lease in
            select l.id, l.worker from scheduler.lease l
            where l.app = p_app and l.keyed and exists (select from unnest(l.runs) r where r.id = any (v_held))
            order by l.id
            for update
        loop
            select array_agg(r.id) into v_runs
            from scheduler.lease l
            cross join lateral unnest(l.runs) r
            where l.app = p_app and l.id = v_lease.id and r.id = any (v_held) and r.id <> all (coalesce(l.done, '{}'));
            continue when v_runs is null;
            perform from scheduler.lease l where l.app = p_app and l.id = v_lease.id and l.begun_at is null;
            if found then
                perform scheduler.release(p_app, v_lease.worker, v_lease.id, v_runs);
            else
                delete from scheduler.run_key k
                where k.app = p_app and k.unique_key = any (v_items) and k.run_id = any (v_runs);
                update scheduler.lease l
                set cancel = coalesce(l.cancel, '{}') || array(
                    select r.id from unnest(v_runs) as r (id) where r.id <> all (coalesce(l.cancel, '{}'))
                )
                where l.app = p_app and l.id = v_lease.id;
                perform pg_notify('scheduler_cancel', v_lease.worker || ' ' || r.id) from unnest(v_runs) as r (id);
            end if;
        end loop;
    end loop;
    raise exception 'a tick of item "%" is being written by somebody else', v_items[1] using
        errcode = 'JS003', hint = 'Try again.';
end
$$;
comment on function scheduler.put_ticks(text, text[], timestamptz[], text[], text) is
    'Writes ticks, one for each item; one that waits is moved.';
