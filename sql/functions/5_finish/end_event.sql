create or replace function scheduler.end_event(p_app text, p_id bigint) returns boolean
language plpgsql
-- By the keys: with statistics from when the tables were small, they are read from end to end.
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    v_now  timestamptz := scheduler.clock();
    v_run  scheduler.run%rowtype;
    v_lock scheduler.event_lock%rowtype;
begin
    -- A client is done with an event, which it may have locked or not: the event goes, and history says that it succeeded.
    -- False: it is not there (not yet published, expired, deleted).
    delete from scheduler.run r
    where r.app = p_app and r.id = p_id and r.executor = 'event' and r.run_at <= v_now
        and r.run_at + scheduler.event_ttl(r.spec) > v_now
    returning r.* into v_run;
    if not found then
        return false;
    end if;
    delete from scheduler.event_lock l where l.app = p_app and l.run_id = p_id returning l.* into v_lock;
    delete from scheduler.run_key k
    where k.app = p_app and k.unique_key = v_run.unique_key and k.run_id = p_id;
    insert into scheduler.history (
        app, queue, id, job, executor, spec, outcome, attempt, priority, max_attempts, timeout, retry_delay,
        retry_max_delay, run_at, scheduled_at, started_at, finished_at, fence, unique_key, tags, concurrency_key,
        concurrency_limit, traceparent
    ) values (
        p_app, v_run.queue, p_id, v_run.job, v_run.executor, v_run.spec, 'succeeded', (v_run.attempt + 1)::smallint,
        v_run.priority, v_run.max_attempts, v_run.timeout, v_run.retry_delay, v_run.retry_max_delay, v_run.run_at,
        v_run.scheduled_at, coalesce(v_lock.locked_at, v_now), v_now, v_lock.fence, v_run.unique_key, v_run.tags,
        v_run.concurrency_key, v_run.concurrency_limit, v_run.traceparent
    );
    -- As in finish: a job's next run may have waited for this one.
    if v_run.job is not null and pg_try_advisory_xact_lock(7716802) then
        perform pg_notify('scheduler_job', '');
    end if;
    return true;
end
$$;
comment on function scheduler.end_event(text, bigint) is 'Ends an event as succeeded. False: there is none.';
