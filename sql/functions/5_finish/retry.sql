create or replace function scheduler.retry(app text, id bigint) returns bigint
language plpgsql
security definer set search_path = pg_catalog, pg_temp
-- Without statistics, a look for one run read 400,000.
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_id bigint;
begin
    -- Runs a finished run once more, as a new run with all its attempts, and returns the new id: a run has one end only,
    -- so the old one keeps its own. A pending or running run is refused with JS003, an unknown one with JS002. The audit
    -- keeps who said so, which is why this runs with the owner's rights: nobody else writes there.
    if session_user <> current_user or current_setting('role') <> 'none' then
        perform scheduler.admit(retry.app);
    end if;
    insert into scheduler.run (
        app, queue, executor, spec, run_at, priority, max_attempts, timeout, retry_delay, retry_max_delay, job,
        unique_key, tags, concurrency_key, concurrency_limit, traceparent
    )
    select h.app, h.queue, h.executor, h.spec, scheduler.clock(), h.priority, h.max_attempts, h.timeout,
        h.retry_delay, h.retry_max_delay, h.job, h.unique_key, h.tags, h.concurrency_key,
        h.concurrency_limit, h.traceparent
    from scheduler.history h
    where h.app = retry.app and h.id = retry.id and h.retry_at is null
    returning run.id into v_id;
    if found then
        perform scheduler.record(retry.app, 'retry', 'run ' || retry.id, null, json_build_object('run', v_id));
        return v_id;
    end if;
    if exists (select from scheduler.runs r where r.app = retry.app and r.id = retry.id) then
        raise exception 'run % of app "%" has not finished', retry.id, retry.app using
            errcode = 'JS003', hint = 'A pending or running run is tried again by itself when it fails.';
    end if;
    raise exception 'there is no run % in app "%"', retry.id, retry.app using errcode = 'JS002';
end
$$;
comment on function scheduler.retry(text, bigint) is 'Runs a finished run again, as a new run; returns the new id.';
