create or replace function scheduler.recall_pulses(p_below interval) returns integer
language plpgsql as $$
declare
    v_pulse record;
    v_count integer := 0;
begin
    -- Has the planner take back jobs whose period is not below p_below, after that limit was lowered: their instants
    -- become rows again. Called when a server starts. Returns how many were taken back.
    for v_pulse in
        select p.app, p.job from scheduler.pulse p
        where p.period >= p_below and p.revision is not null
        order by p.app, p.job
    loop
        perform from scheduler.job_schedule s where s.app = v_pulse.app and s.job = v_pulse.job for update;
        if scheduler.revoke_pulse(v_pulse.app, v_pulse.job) then
            update scheduler.job_schedule s set
                revision = s.revision + 1, next_at = '-infinity', after_at = scheduler.clock()
            where s.app = v_pulse.app and s.job = v_pulse.job;
            v_count := v_count + 1;
        end if;
    end loop;
    return v_count;
end
$$;
comment on function scheduler.recall_pulses(interval) is 'Has jobs planned by rows again whose period is too long now.';
