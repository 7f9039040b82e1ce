create or replace function scheduler.reclaim_pulses(p_limit integer default 100)
returns table (app text, lease bigint, worker bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    v_now   timestamptz := scheduler.clock();
    v_pulse record;
    v_error text;
begin
    -- Takes back up to p_limit jobs that workers fired from their timers who are not alive; the next worker goes on with
    -- the first instant after it took over. What was fired since the last report nobody knows: history gets a failed row
    -- that says so, and the ledger the instants with the next report. None of them is fired again. The worker's own
    -- report and this compete for the row's lock, and who comes second changes nothing.
    for v_pulse in
        select p.ctid as place, p.* from scheduler.pulse p
        where p.worker is not null and not exists (
            select from scheduler.worker w where w.id = p.worker and w.dead_at is null and w.stopped_at is null
        )
        order by p.app, p.job
        limit p_limit
        for update of p skip locked
    loop
        app := v_pulse.app;
        lease := v_pulse.lease;
        worker := v_pulse.worker;
        select format('worker %s (%s on %s) was lost', v_pulse.worker, coalesce(max(w.label), '?'), coalesce(max(w.host), '?'))
        into v_error
        from scheduler.worker w where w.id = v_pulse.worker;
        v_error := v_error || '; what it fired since its last report is not known';
        insert into scheduler.history (
            app, queue, id, job, executor, spec, outcome, attempt, priority, max_attempts, timeout, run_at, started_at,
            finished_at, worker, fence, error, tags
        ) values (
            v_pulse.app, (v_pulse.run).queue, v_pulse.run_id, v_pulse.job, (v_pulse.run).executor, (v_pulse.run).spec,
            'failed', 1, (v_pulse.run).priority, 1, (v_pulse.run).timeout, v_pulse.reported_at, v_pulse.reported_at, v_now,
            v_pulse.worker, v_pulse.lease, v_error, (v_pulse.run).tags
        );
        if v_pulse.revision is null then
            delete from scheduler.pulse p where p.ctid = v_pulse.place;
        else
            update scheduler.pulse p set
                worker = null, lease = null, taken_at = null, reported_at = null, revoked_at = null, run_id = null, run = null,
                lost = least(p.lost + 1, 100), gap = v_error
            where p.ctid = v_pulse.place;
            perform pg_notify('scheduler_pulse', '');
        end if;
        return next;
    end loop;
end
$$;
comment on function scheduler.reclaim_pulses(integer) is 'Takes back the jobs that dead workers fired from their timers.';
