create or replace function scheduler.take_keyed(
    p_app text, p_queue text, p_executors text[], p_until timestamptz, p_limit integer
) returns tid[]
language plpgsql
-- By run_keyed, whatever the statistics say: without them all runs of the queue were sorted for each key, 2.4 million
-- entries of the other index for a claim of 20 runs of 40,000.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_incremental_sort = off
set jit = off
as $$
declare
    v_keys_most constant integer := 64;    -- locks of a claim: all sessions share some 6,400
    v_look_most constant integer := 1000;  -- lanes of keys whose slots are taken cost 8 us each
    v_turn      text := 'scheduler.turn_' || md5(p_app || E'\t' || p_queue);
    v_lane      record;
    v_looked    integer := 0;
    v_key       text;
    v_free      bigint;
    v_keys      text[] := '{}';
    v_frees     bigint[] := '{}';
    v_lane_keys text[] := '{}';
    v_lane_priorities smallint[] := '{}';
    v_lane_executors  text[] := '{}';
begin
    -- Locks up to p_limit due runs with concurrency keys, to be claimed in this transaction, and returns their places: of
    -- each key no more than it has slots left, and of no run more than its own limit says. Keys have turns: a session
    -- goes on behind the key where its last claim of the queue ended (which it keeps in a setting of its own), and the
    -- runs are shared out among the keys that have slots. A bounded number of keys is looked at.
    -- What makes it exact is the lock of a key. Who has it counts the slots that all claims before have taken; who does
    -- not get it at once leaves the key out, so nobody ever waits.
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'a claim of runs with limits must see what the claim before it took' using
            errcode = 'JS003', hint = 'Claim in a transaction of its own, with isolation level read committed.';
    end if;

    for v_lane in
        with recursive later as (
            (
                select r.concurrency_key, r.priority, r.executor, r.run_at, r.concurrency_limit from scheduler.run r
                where r.app = p_app and r.queue = p_queue
                    and r.concurrency_key > coalesce(current_setting(v_turn, true), '')
                order by r.concurrency_key, r.priority, r.executor, r.run_at, r.id limit 1
            )
            union all
            select n.*
            from later l
            cross join lateral (
                select r.concurrency_key, r.priority, r.executor, r.run_at, r.concurrency_limit from scheduler.run r
                where r.app = p_app and r.queue = p_queue and r.concurrency_key is not null
                    and (r.concurrency_key, r.priority, r.executor) > (l.concurrency_key, l.priority, l.executor)
                order by r.concurrency_key, r.priority, r.executor, r.run_at, r.id limit 1
            ) n
        ), first as (
            (
                select r.concurrency_key, r.priority, r.executor, r.run_at, r.concurrency_limit from scheduler.run r
                where r.app = p_app and r.queue = p_queue
                    and r.concurrency_key <= coalesce(current_setting(v_turn, true), '')
                order by r.concurrency_key, r.priority, r.executor, r.run_at, r.id limit 1
            )
            union all
            select n.*
            from first l
            cross join lateral (
                select r.concurrency_key, r.priority, r.executor, r.run_at, r.concurrency_limit from scheduler.run r
                where r.app = p_app and r.queue = p_queue
                    and r.concurrency_key <= coalesce(current_setting(v_turn, true), '')
                    and (r.concurrency_key, r.priority, r.executor) > (l.concurrency_key, l.priority, l.executor)
                order by r.concurrency_key, r.priority, r.executor, r.run_at, r.id limit 1
            ) n
        )
        select * from later union all select * from first
    loop
        v_looked := v_looked + 1;
        if v_lane.concurrency_key is distinct from v_key then
            exit when v_looked > v_look_most or cardinality(v_keys) >= least(p_limit, v_keys_most);
            v_key := v_lane.concurrency_key;
            v_free := null;
        end if;
        continue when v_lane.run_at > p_until or v_lane.executor <> all (p_executors) or v_lane.executor = 'event';
        if v_free is null then
            select coalesce(v_lane.concurrency_limit, 1) - count(*) into v_free
            from scheduler.slot s where s.app = p_app and s.concurrency_key = v_key;
            if v_free > 0 then
                v_keys := v_keys || v_key;
                v_frees := v_frees || v_free;
            end if;
        end if;
        if v_free > 0 then
            v_lane_keys := v_lane_keys || v_key;
            v_lane_priorities := v_lane_priorities || v_lane.priority;
            v_lane_executors := v_lane_executors || v_lane.executor::text;
        end if;
    end loop;
    perform set_config(v_turn, v_key, false) where v_key is not null;

    select array_agg(k.key order by k.nr), array_agg(k.free order by k.nr) into v_keys, v_frees
    from unnest(v_keys, v_frees) with ordinality as k (key, free, nr)
    where pg_try_advisory_xact_lock(7716803, hashtext(p_app || E'\t' || k.key));
    -- A new statement, which sees all that was committed before the locks were had. The first of each key come before the
    -- second of any.
    return array(
        select t.place
        from unnest(v_keys, v_frees) with ordinality as k (key, free, nr)
        cross join lateral (
            select c.place, c.run_nr, bool_and(h.taken + c.run_nr <= c.concurrency_limit) over (order by c.run_nr) as fits
            from (select count(*) as taken from scheduler.slot s where s.app = p_app and s.concurrency_key = k.key) h
            cross join lateral (
                select f.*, row_number() over (order by f.priority, f.run_at, f.id) as run_nr
                from unnest(v_lane_keys, v_lane_priorities, v_lane_executors) as l (key, priority, executor)
                cross join lateral (
                    select r.ctid as place, r.priority, r.run_at, r.id, coalesce(r.concurrency_limit, 1) as concurrency_limit
                    from scheduler.run r
                    where r.app = p_app and r.queue = p_queue and r.concurrency_key = l.key and r.priority = l.priority
                        and r.executor = l.executor and r.run_at <= p_until
                    order by r.run_at, r.id
                    limit least(p_limit, k.free)
                    for update skip locked
                ) f
                where l.key = k.key
            ) c
        ) t
        where t.fits
        order by t.run_nr, k.nr
        limit p_limit
    );
end
$$;
comment on function scheduler.take_keyed(text, text, text[], timestamptz, integer) is
    'Locks due runs whose concurrency keys have slots left, key by key in turns.';
