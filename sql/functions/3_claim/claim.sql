drop function if exists scheduler.claim(text, bigint, text, integer, text[], interval, boolean);
drop function if exists scheduler.claim(
    text, bigint, text, integer, text[], interval, boolean, smallint, timestamptz, bigint
);
drop function if exists scheduler.claim(
    text, bigint, text, integer, text[], interval, boolean, smallint, timestamptz, bigint, boolean
);
create or replace function scheduler.claim(
    p_app text, p_worker bigint, p_queue text default 'default', p_limit integer default 1,
    p_executors text[] default null, p_horizon interval default '0', p_begin boolean default true,
    p_priority smallint default null, p_after_at timestamptz default '-infinity', p_after_id bigint default null,
    p_keyed boolean default null
) returns table (
    lease bigint, id bigint, executor text, spec jsonb, attempt smallint, run_at timestamptz, scheduled_at timestamptz,
    job text, timeout interval, max_attempts smallint, lost smallint, priority smallint, limited boolean,
    traceparent text
)
language plpgsql
security definer set search_path = pg_catalog, pg_temp
-- Planned once, and never over the whole table: with statistics from when the table was empty, or none at all, the
-- planner prefers a sequential scan; and a claim of 500 that is planned each time takes 0.1 to 0.2 ms more.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    v_now    timestamptz := scheduler.clock();
    v_until  timestamptz := v_now + p_horizon;
    v_lane   record;
    v_rows   tid[];
    v_bytes  bigint;
    v_packed boolean;
    v_locked integer;
    v_full   boolean := false;
    v_take   tid[] := '{}';
    v_room   bigint := 4194304;
    v_lease  bigint;
    v_runs   scheduler.run[];
    v_jobs   text[];
    v_keyed  boolean;
    v_paused boolean;
    v_keys   boolean;  -- the queue has runs with concurrency keys, and they are wanted
    v_slots  boolean := false;  -- some of those that are taken have them
    v_limit  scheduler.queue_limit%rowtype;
    v_limited boolean;         -- the queue has limits
begin
    -- Moves up to p_limit runs that start before now + p_horizon (and at most 4 MiB of specs, but at least one run) from
    -- run into one lease of the worker, and returns them with attempt counted for this try. Lower priority first; of one
    -- priority, the executor whose run is due longest, and its runs by run_at. Rows that another claim has locked are
    -- passed over. With p_begin the runs count as started; without, they are prefetched: begin() must be called before
    -- the first of them starts.
    -- With p_priority only runs of that priority are taken, and only those after (p_after_at, p_after_id): a worker that
    -- drains a long queue goes on where its last claim ended. Claimed rows stay in the index until they are vacuumed,
    -- for as long as any old snapshot is open; walking over them again each time, claims fell from 91,000 to 28,000
    -- runs/s after 50,000 runs. What comes to lie before that place is found by a claim without it, now and then.
    -- Runs with concurrency keys come in the order of their keys' turns (see take_keyed), and of a queue that has both
    -- kinds, the toss of a coin tells which comes first; p_keyed asks for one kind only.
    -- What is limited, by a key or for its queue, is claimed when it is due and with p_begin, not before: a run that waits
    -- in a worker's hands would hold a slot for nothing. Claims of one queue with limits take turns, and who comes second
    -- finds nothing.
    -- Events wait for clients and are never claimed, whatever executors are named.
    -- Nothing is executed here, and the caller commits at once.
    if session_user <> current_user or current_setting('role') <> 'none' then
        perform scheduler.admit(p_app);
    end if;
    perform from scheduler.worker w where w.id = p_worker and w.dead_at is null and w.stopped_at is null;
    if not found then
        raise exception 'worker % is not registered, has stopped or was declared dead', p_worker using
            errcode = 'JS004', hint = 'Stop what it runs, register again and go on with the new id.';
    end if;
    -- One look at three small tables: all that a claim without limits pays for those that have some.
    select exists (select from scheduler.app a where a.app = p_app and a.paused_at is not null),
        exists (select from scheduler.queue_limit l where l.app = p_app and l.queue = p_queue),
        p_keyed is not false and p_begin and p_priority is null
            and exists (select from scheduler.run r where r.app = p_app and r.queue = p_queue and r.concurrency_key is not null)
    into v_paused, v_limited, v_keys;
    if v_paused or (v_limited and not p_begin) then
        return;
    end if;
    if v_limited then
        if current_setting('transaction_isolation') <> 'read committed' then
            raise exception 'a claim of a queue with limits must see what the claim before it took' using
                errcode = 'JS003', hint = 'Claim in a transaction of its own, with isolation level read committed.';
        end if;
        select * into v_limit from scheduler.queue_limit l
        where l.app = p_app and l.queue = p_queue
        for update skip locked;
        if not found then
            return;
        end if;
        v_until := v_now;
        -- Read once the lock is had.
        select least(p_limit, r.slots, r.tokens) into p_limit from scheduler.leeway(p_app, p_queue) r;
        if p_limit <= 0 then
            return;
        end if;
    end if;
    if v_keys and (p_keyed or random() < 0.5) then
        v_take := scheduler.take_keyed(p_app, p_queue, p_executors, v_now, p_limit);
        v_keys := false;
        v_slots := v_take <> '{}';
        if v_slots then
            select f.rows, v_room - f.bytes into v_take, v_room from scheduler.fitting(v_take, v_room, true) f;
        end if;
    end if;

    for v_lane in
        select p_priority as priority, e.executor from unnest(p_executors) e (executor)
        where p_priority is not null and p_keyed is not true and e.executor <> 'event'
        union all
        (
            select l.priority, l.executor from scheduler.lanes(p_app, p_queue) l
            -- The first condition names no column, so where it is false nothing is looked for: behind a place, a look for
            -- lanes would walk over all that was claimed before it, under an old snapshot 80 ms for each claim.
            where p_keyed is not true and cardinality(v_take) < p_limit
                and (p_priority is null or p_executors is null) and (p_priority is null or l.priority = p_priority)
                and l.run_at <= v_until and (p_executors is null or l.executor = any (p_executors)) and l.executor <> 'event'
            order by l.priority, l.run_at
        )
    loop
        -- The innermost select is a fence: without it a nested loop may execute the limit again and lock more rows.
        select coalesce(array_agg(f.place), '{}'), coalesce(sum(f.stored), 0), bool_or(f.packed)
        into v_rows, v_bytes, v_packed
        from (
            select r.ctid as place, pg_column_size(r.spec) as stored, pg_column_compression(r.spec) is not null as packed
            from scheduler.run r
            where r.app = p_app and r.queue = p_queue and r.priority = v_lane.priority and r.executor = v_lane.executor
                and r.concurrency_key is null
                and r.run_at <= v_until and (r.run_at, r.id) > (p_after_at, coalesce(p_after_id, 0))
            order by r.run_at, r.id
            limit p_limit - cardinality(v_take)
            for update skip locked
        ) f;
        if v_packed or v_bytes > v_room then
            v_locked := cardinality(v_rows);
            select f.rows, f.bytes into v_rows, v_bytes from scheduler.fitting(v_rows, v_room, v_take = '{}') f;
            v_full := cardinality(v_rows) < v_locked;
        end if;
        v_take := v_take || v_rows;
        v_room := v_room - v_bytes;
        exit when v_full or cardinality(v_take) >= p_limit;
    end loop;
    if v_keys and not v_full and cardinality(v_take) < p_limit then
        v_rows := scheduler.take_keyed(p_app, p_queue, p_executors, v_now, p_limit - cardinality(v_take));
        v_slots := v_rows <> '{}';
        if v_slots then
            select v_take || f.rows into v_take from scheduler.fitting(v_rows, v_room, v_take = '{}') f;
        end if;
    end if;
    if cardinality(v_take) = 0 then
        return;
    end if;

    -- By place, not by id: id in (…) became a hash join over the whole table, 14.8 ms a batch of 500 instead of 1.4.
    with taken as (
        delete from scheduler.run r where r.ctid = any (v_take)
        returning r as run, r.priority, r.run_at, r.id, r.job, r.unique_key
    )
    select array_agg(t.run order by t.priority, t.run_at, t.id), array_agg(distinct t.job) filter (where t.job is not null),
        bool_or(t.unique_key is not null)
    into v_runs, v_jobs, v_keyed
    from taken t;
    v_lease := nextval('scheduler.lease_id');
    if v_slots then
        insert into scheduler.slot (app, lease, run_id, concurrency_key)
        select p_app, v_lease, u.id, u.concurrency_key from unnest(v_runs) u where u.concurrency_key is not null;
    end if;
    if v_limit.rate_limit is not null then
        -- Rounded up to the microsecond: never a token too early.
        update scheduler.queue_limit l
        set full_at = greatest(l.full_at, v_now) + make_interval(secs => (
            ceil(cardinality(v_runs) * extract(epoch from l.rate_interval) * 1000000 / l.rate_limit) / 1000000
        )::float8)
        where l.app = p_app and l.queue = p_queue;
    end if;
    insert into scheduler.lease (app, id, worker, queue, claimed_at, begun_at, size, jobs, keyed, limited, runs)
    values (
        p_app, v_lease, p_worker, p_queue, v_now, case when p_begin then v_now end, cardinality(v_runs), v_jobs, v_keyed,
        v_slots or v_limited, v_runs
    );
    return query
    -- A returned column must have the promised type itself, not a domain over it.
    select v_lease, u.id, u.executor::text, u.spec::jsonb, (u.attempt + 1)::smallint, u.run_at, u.scheduled_at, u.job,
        u.timeout::interval, u.max_attempts::smallint, u.lost, u.priority, v_slots or v_limited,
        u.traceparent::text
    from unnest(v_runs) u;
end
$$;
comment on function scheduler.claim(
    text, bigint, text, integer, text[], interval, boolean, smallint, timestamptz, bigint, boolean
) is 'Takes due runs of a queue under one lease; its id is the fencing token.';
