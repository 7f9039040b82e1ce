create or replace function scheduler.pause(app text, job text default null) returns boolean
language plpgsql as $$
declare
    v_schedule record;
    v_count    integer;
begin
    -- Pauses one job, or with job null the whole app: nothing more is planned, what was planned and not started is taken
    -- back, and no worker claims runs of a paused app. What runs goes on to its end. False: it was paused already.
    if pause.job is not null then
        update scheduler.job j set paused_at = scheduler.clock(), updated_at = scheduler.clock()
        where j.app = pause.app and j.name = pause.job and j.paused_at is null;
        if not found then
            perform from scheduler.job j where j.app = pause.app and j.name = pause.job;
            if not found then
                raise exception 'there is no job "%" in app "%"', pause.job, pause.app using errcode = 'JS002';
            end if;
            return false;
        end if;
        return true;
    end if;
    insert into scheduler.app as a (app, paused_at) values (pause.app, scheduler.clock())
    on conflict on constraint app_pkey do update set paused_at = excluded.paused_at where a.paused_at is null;
    if not found then
        return false;
    end if;
    for v_schedule in
        select s.job, s.next_at from scheduler.job_schedule s where s.app = pause.app order by s.job for update
    loop
        v_count := scheduler.withdraw(pause.app, v_schedule.job, 'paused', false);
        -- Also without a next instant a job may have something to come: its last run, the one that @after awaits, or what
        -- a worker fires from its timer.
        if scheduler.revoke_pulse(pause.app, v_schedule.job) or v_count > 0 or v_schedule.next_at is not null then
            update scheduler.job_schedule s set
                revision = s.revision + 1, next_at = '-infinity', after_at = scheduler.clock(), awaits = null
            where s.app = pause.app and s.job = v_schedule.job;
        end if;
    end loop;
    return true;
end
$$;
comment on function scheduler.pause(text, text) is 'Pauses a job, or a whole app. False: it was paused already.';
