create or replace function scheduler.revoke_pulse(p_app text, p_job text) returns boolean
language plpgsql as $$
declare
    v_pulse record;
begin
    -- Ends what a worker fires from its timer, since its definition changed, was paused or removed. While a worker holds
    -- it the row stays and tells it to let go, so that nobody else begins before it has. Called with the job's job_schedule
    -- row locked; the order of locks is job_schedule, run, lease, pulse. False: it was not fired by workers.
    select p.worker, p.revision into v_pulse from scheduler.pulse p where p.app = p_app and p.job = p_job for update;
    if not found or v_pulse.revision is null then
        return false;
    end if;
    if v_pulse.worker is null then
        delete from scheduler.pulse p where p.app = p_app and p.job = p_job;
    else
        update scheduler.pulse p set revision = null, revoked_at = scheduler.clock() where p.app = p_app and p.job = p_job;
        perform pg_notify('scheduler_pulse', v_pulse.worker::text);
    end if;
    return true;
end
$$;
comment on function scheduler.revoke_pulse(text, text) is 'Has the worker that fires a job let go of it.';
