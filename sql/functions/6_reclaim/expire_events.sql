create or replace function scheduler.expire_events(
    p_limit integer default 1000, p_lanes integer default 200, p_app text default '', p_queue text default '',
    p_priority smallint default 0, p_executor text default '', p_after_at timestamptz default '-infinity',
    p_after_id bigint default 0,
    out app text, out queue text, out priority smallint, out executor text, out run_at timestamptz, out id bigint,
    out seen integer, out expired integer
)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_now  timestamptz := scheduler.clock();
    v_at   timestamptz := p_after_at;
    v_id   bigint := p_after_id;
    v_seen integer;
    v_gone integer;
    v_jobs boolean := false;
    v_job  boolean;
    v_next record;
begin
    -- Looks through up to p_limit published events behind a place, lane by lane of run_due and through p_lanes lanes at
    -- most, and ends those whose time to live is over: cancelled, with the reason "expired". Returns the place to go on
    -- from; app null: there is nothing behind it, begin anew. Locks that have expired go as well. It only tidies up:
    -- whoever lists, locks or ends events compares with the clock, so nobody sees one that it has not reached yet. Of two
    -- that look at once each does a part.
    -- Lanes of other executors are stepped over, one probe each. An index of events alone would have cost each one-row
    -- insert, of whatever executor, 2.3 us of 80.
    app := p_app;
    queue := p_queue;
    priority := p_priority;
    executor := p_executor;
    seen := 0;
    expired := 0;
    for v_lane in 1 .. p_lanes loop
        if executor = 'event' then
            with page as materialized (
                select r.ctid as place, r.run_at, r.id, r.run_at + scheduler.event_ttl(r.spec) <= v_now as is_over
                from scheduler.run r
                where r.app = expire_events.app and r.queue = expire_events.queue and r.priority = expire_events.priority
                    and r.executor = 'event' and r.concurrency_key is null and r.run_at <= v_now
                    and (r.run_at, r.id) > (v_at, v_id)
                order by r.run_at, r.id
                limit p_limit - expire_events.seen
            ), gone as (
                delete from scheduler.run r
                where r.ctid = any (array(
                    select o.ctid from page p join scheduler.run o on o.ctid = p.place where p.is_over
                    for update of o skip locked
                ))
                returning r.*
            ), noted as (
                insert into scheduler.history (
                    app, queue, id, job, executor, spec, outcome, attempt, priority, max_attempts, timeout, retry_delay,
                    retry_max_delay, run_at, scheduled_at, finished_at, error, unique_key, tags,
                    traceparent
                )
                select g.app, g.queue, g.id, g.job, g.executor, g.spec, 'cancelled', g.attempt, g.priority,
                    g.max_attempts, g.timeout, g.retry_delay, g.retry_max_delay, g.run_at, g.scheduled_at, v_now,
                    format('expired: nobody deleted the event within its ttl of %s', scheduler.event_ttl(g.spec)),
                    g.unique_key, g.tags, g.traceparent
                from gone g
            ), freed as (
                delete from scheduler.run_key k where k.ctid = any (array(
                    select o.place from gone g
                    cross join lateral (
                        select o.ctid as place from scheduler.run_key o
                        where o.app = g.app and o.unique_key = g.unique_key and o.run_id = g.id offset 0
                    ) o
                    where g.unique_key is not null
                ))
            )
            select count(*), max(p.run_at), max(p.id) filter (where p.run_at = (select max(m.run_at) from page m)),
                (select count(*) from gone), (select bool_or(g.job is not null) from gone g)
            into v_seen, run_at, id, v_gone, v_job
            from page p;
            seen := expire_events.seen + v_seen;
            expired := expire_events.expired + v_gone;
            v_jobs := v_jobs or coalesce(v_job, false);
            exit when expire_events.seen >= p_limit;
        end if;
        -- The next lane; the place behind it when this was the last one that may be looked at.
        select r.app, r.queue, r.priority, r.executor into v_next from scheduler.run r
        where r.concurrency_key is null
            and (r.app, r.queue, r.priority, r.executor)
                > (expire_events.app, expire_events.queue, expire_events.priority, expire_events.executor)
        order by r.app, r.queue, r.priority, r.executor, r.run_at, r.id limit 1;
        app := v_next.app;
        queue := v_next.queue;
        priority := v_next.priority;
        executor := v_next.executor;
        v_at := '-infinity';
        v_id := 0;
        run_at := v_at;
        id := v_id;
        exit when expire_events.app is null;
    end loop;
    delete from scheduler.event_lock l where l.ctid = any (array(
        select o.ctid from scheduler.event_lock o where o.expires_at <= v_now order by o.expires_at limit p_limit
        for update skip locked
    ));
    if v_jobs and pg_try_advisory_xact_lock(7716802) then
        perform pg_notify('scheduler_job', '');
    end if;
end
$$;
comment on function scheduler.expire_events(
    integer, integer, text, text, smallint, text, timestamptz, bigint
) is 'Ends events whose time to live is over.';
