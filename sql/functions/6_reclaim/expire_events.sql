create or replace function scheduler.expire_events(
    p_limit integer default 1000, p_app text default '', p_after_at timestamptz default '-infinity',
    p_after_id bigint default 0, out app text, out run_at timestamptz, out id bigint, out expired integer
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
    v_now   timestamptz := scheduler.clock();
    v_app   text := p_app;
    v_at    timestamptz := p_after_at;
    v_id    bigint := p_after_id;
    v_left  integer := p_limit;
    v_seen  integer;
    v_gone  integer;
    v_jobs  boolean := false;
    v_job   boolean;
begin
    -- Looks through up to p_limit published events behind a place (app, run_at, id), app by app, and ends those whose time
    -- to live is over: cancelled, with the reason "expired". Returns the place to go on from; app null: there is nothing
    -- behind it, begin anew. Locks that have expired go as well. It only tidies up: whoever lists, locks or ends events
    -- compares with the clock, so nobody sees one that it has not reached yet. Of two that look at once each does a part.
    expired := 0;
    loop
        with page as materialized (
            select r.ctid as place, r.run_at, r.id, r.run_at + scheduler.event_ttl(r.spec) <= v_now as is_over
            from scheduler.run r
            where r.app = v_app and r.executor = 'event' and r.run_at <= v_now and (r.run_at, r.id) > (v_at, v_id)
            order by r.run_at, r.id
            limit v_left
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
                retry_max_delay, run_at, scheduled_at, finished_at, error, unique_key, tags, concurrency_key,
                concurrency_limit
            )
            select g.app, g.queue, g.id, g.job, g.executor, g.spec, 'cancelled', g.attempt, g.priority, g.max_attempts,
                g.timeout, g.retry_delay, g.retry_max_delay, g.run_at, g.scheduled_at, v_now,
                format('expired: nobody deleted the event within its ttl of %s', scheduler.event_ttl(g.spec)),
                g.unique_key, g.tags, g.concurrency_key, g.concurrency_limit
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
        expired := expired + v_gone;
        v_jobs := v_jobs or coalesce(v_job, false);
        if v_seen >= v_left then
            app := v_app;
            exit;
        end if;
        v_left := v_left - v_seen;
        select r.app into v_app from scheduler.run r
        where r.executor = 'event' and r.app > v_app
        order by r.app, r.run_at, r.id limit 1;
        exit when not found;
        v_at := '-infinity';
        v_id := 0;
        v_left := v_left - 1;
        if v_left <= 0 then
            app := v_app;
            run_at := v_at;
            id := v_id;
            exit;
        end if;
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
comment on function scheduler.expire_events(integer, text, timestamptz, bigint) is 'Ends events whose time to live is over.';
