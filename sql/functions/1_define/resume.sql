create or replace function scheduler.resume(app text, job text default null) returns boolean
language plpgsql as $$
begin
    -- Ends a pause of one job, or with job null of the whole app. Instants that passed meanwhile were not missed: they
    -- were not wanted, so planning starts with the first one after now. False: it was not paused.
    if resume.job is not null then
        update scheduler.job j set paused_at = null, updated_at = scheduler.clock()
        where j.app = resume.app and j.name = resume.job and j.paused_at is not null;
        if not found then
            perform from scheduler.job j where j.app = resume.app and j.name = resume.job;
            if not found then
                raise exception 'there is no job "%" in app "%"', resume.job, resume.app using errcode = 'JS002';
            end if;
            return false;
        end if;
        return true;
    end if;
    update scheduler.app a set paused_at = null where a.app = resume.app and a.paused_at is not null;
    if not found then
        return false;
    end if;
    update scheduler.job_schedule s set revision = s.revision + 1, next_at = '-infinity', after_at = scheduler.clock()
    where s.app = resume.app and s.next_at is not null;
    perform pg_notify('scheduler_job', 'resumed');
    perform pg_notify('scheduler_run', '');
    return true;
end
$$;
comment on function scheduler.resume(text, text) is 'Ends a pause of a job, or of a whole app. False: it was not paused.';
