create or replace function scheduler.cancel(app text, id bigint) returns boolean
language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_run   scheduler.run%rowtype;
    v_lease record;
begin
    -- Cancels a run. Pending: it ends as cancelled at once. Running: its worker is told to stop it, and it ends as
    -- cancelled unless it ends by itself first. False: there is no such run, or it has ended.
    -- A run found in neither table may be on its way from one to the other (a claim, a release, a retry): look again.
    -- A prefetched one is given back first, so that it ends in the same way: no attempt was started, none is counted.
    if session_user <> current_user or current_setting('role') <> 'none' then
        perform scheduler.admit(cancel.app);
    end if;
    for v_look in 1..3 loop
        delete from scheduler.run r where r.app = cancel.app and r.id = cancel.id returning r.* into v_run;
        if found then
            insert into scheduler.history (
                app, queue, id, job, executor, spec, outcome, attempt, priority, max_attempts, timeout,
                retry_delay, retry_max_delay, run_at, scheduled_at, finished_at, error, unique_key, tags, concurrency_key,
                concurrency_limit
            ) values (
                v_run.app, v_run.queue, v_run.id, v_run.job, v_run.executor, v_run.spec, 'cancelled', v_run.attempt,
                v_run.priority, v_run.max_attempts, v_run.timeout, v_run.retry_delay, v_run.retry_max_delay,
                v_run.run_at, v_run.scheduled_at, scheduler.clock(), 'cancelled before it started', v_run.unique_key,
                v_run.tags, v_run.concurrency_key, v_run.concurrency_limit
            );
            delete from scheduler.run_key k
            where k.app = v_run.app and k.unique_key = v_run.unique_key and k.run_id = v_run.id;
            return true;
        end if;

        select l.id, l.worker, l.begun_at into v_lease from scheduler.lease l
        where l.app = cancel.app and cancel.id <> all (coalesce(l.done, '{}'))
            and exists (select from unnest(l.runs) r where r.id = cancel.id)
        for update;
        if found and v_lease.begun_at is null then
            perform scheduler.release(cancel.app, v_lease.worker, v_lease.id, array[cancel.id]);
        elsif found then
            update scheduler.lease l set cancel = array_append(array_remove(l.cancel, cancel.id), cancel.id)
            where l.app = cancel.app and l.id = v_lease.id;
            perform pg_notify('scheduler_cancel', v_lease.worker || ' ' || cancel.id);
            return true;
        end if;
    end loop;
    return false;
end
$$;
comment on function scheduler.cancel(text, bigint) is 'Cancels a pending or running run. False: there is none.';
