create or replace function scheduler.release_pulses(
    p_app text, p_worker bigint, p_leases bigint[], p_is_over boolean default false
) returns integer
language plpgsql
security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_pulse record;
    v_count integer := 0;
begin
    -- Lets go of jobs that the worker fires; it has reported, and nothing of them runs any more. Another worker may take
    -- them now. The row of one that was revoked goes, unless the planner has planned it anew; so does that of one whose
    -- last instant has passed (p_is_over), unless it was edited since. Only the holder can; returns how many it let go.
    if session_user <> current_user or current_setting('role') <> 'none' then
        perform scheduler.admit(p_app);
    end if;
    for v_pulse in
        select p.ctid as place, p.revision is null or (p_is_over and p.revoked_at is null) as is_over
        from scheduler.pulse p
        where p.app = p_app and p.worker = p_worker and p.lease = any (p_leases)
        order by p.job
        for update
    loop
        if v_pulse.is_over then
            delete from scheduler.pulse p where p.ctid = v_pulse.place;
        else
            update scheduler.pulse p set
                worker = null, lease = null, taken_at = null, reported_at = null, revoked_at = null, run_id = null, run = null
            where p.ctid = v_pulse.place;
            perform pg_notify('scheduler_pulse', '');
        end if;
        v_count := v_count + 1;
    end loop;
    return v_count;
end
$$;
comment on function scheduler.release_pulses(text, bigint, bigint[], boolean) is
    'Lets go of jobs that a worker fires from its timer.';
