create or replace function scheduler.cancel_run(p_app text, p_id bigint) returns text
language plpgsql as $$
declare
    v_run   scheduler.run%rowtype;
    v_lease record;
begin
    -- What cancel does, for whoever calls it: people, and the planner for a job that replaces its runs. Returns what the
    -- run was: pending, it has then ended as cancelled; or running, its worker was then told to stop it, and it ends as
    -- cancelled unless it ends by itself first. Null: there is no such run, or it has ended.
    -- A run found in neither table may be on its way from one to the other (a claim, a release, a retry): look again.
    -- A prefetched one is given back first, so that it ends in the same way: no attempt was started, none is counted.
    for v_look in 1..3 loop
        delete from scheduler.run r where r.app = p_app and r.id = p_id returning r.* into v_run;
        if found then
            insert into scheduler.history (
                app, queue, id, job, executor, spec, outcome, attempt, priority, max_attempts, timeout,
                retry_delay, retry_max_delay, run_at, scheduled_at, finished_at, error, unique_key, tags, concurrency_key,
                concurrency_limit, traceparent
            ) values (
                v_run.app, v_run.queue, v_run.id, v_run.job, v_run.executor, v_run.spec, 'cancelled', v_run.attempt,
                v_run.priority, v_run.max_attempts, v_run.timeout, v_run.retry_delay, v_run.retry_max_delay,
                v_run.run_at, v_run.scheduled_at, scheduler.clock(), 'cancelled before it started', v_run.unique_key,
                v_run.tags, v_run.concurrency_key, v_run.concurrency_limit, v_run.traceparent
            );
            delete from scheduler.run_key k
            where k.app = v_run.app and k.unique_key = v_run.unique_key and k.run_id = v_run.id;
            return 'pending';
        end if;

        select l.id, l.worker, l.begun_at into v_lease from scheduler.lease l
        where l.app = p_app and p_id <> all (coalesce(l.done, '{}'))
            and exists (select from unnest(l.runs) r where r.id = p_id)
        for update;
        if found and v_lease.begun_at is null then
            perform scheduler.release(p_app, v_lease.worker, v_lease.id, array[p_id]);
        elsif found then
            update scheduler.lease l set cancel = array_append(array_remove(l.cancel, p_id), p_id)
            where l.app = p_app and l.id = v_lease.id;
            perform pg_notify('scheduler_cancel', v_lease.worker || ' ' || p_id);
            return 'running';
        end if;
    end loop;
    return null;
end
$$;
comment on function scheduler.cancel_run(text, bigint) is 'Cancels a run; returns what it was, or null.';
