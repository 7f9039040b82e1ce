create or replace function scheduler.withdraw(p_app text, p_job text, p_reason text, p_due boolean) returns integer
language plpgsql as $$
declare
    v_now      timestamptz := scheduler.clock();
    v_runs     bigint[] := '{}';
    v_instants timestamptz[] := '{}';
    v_lease    bigint;
    v_found    record;
begin
    -- Takes back what the planner wrote for a job and nobody has started: future instants always (they leave the ledger,
    -- to be decided anew), due ones when p_due (the ledger then says skipped, and why). Runs that were started, that
    -- wait for another attempt, or that a person triggered stay, as do events that were published. Called with the job's job_schedule row locked, so the
    -- order of locks is job_schedule, run, lease, as everywhere. Returns how many runs were taken back.
    -- A run may be on its way from one table to the other (a claim, a release), so each is looked at twice.
    for v_look in 1..2 loop
        with gone as (
            delete from scheduler.run r
            where r.app = p_app and r.job = p_job and r.scheduled_at is not null and r.attempt = 0
                and ((p_due and r.executor <> 'event') or r.scheduled_at > v_now)
            returning r.id, r.scheduled_at
        )
        select v_runs || array_agg(g.id), v_instants || array_agg(g.scheduled_at) into v_runs, v_instants from gone g;

        for v_lease in
            select l.id from scheduler.lease l
            where l.app = p_app and p_job = any (l.jobs) and l.begun_at is null
            order by l.id
            for update
        loop
            -- Read once the lock is had: what ended meanwhile must not be struck off twice, or a lease would go with
            -- runs still open.
            select array_agg(r.id) as ids, array_agg(r.scheduled_at) as instants into v_found
            from scheduler.lease l
            cross join lateral unnest(l.runs) r
            where l.app = p_app and l.id = v_lease and r.job = p_job and r.scheduled_at is not null and r.attempt = 0
                and (p_due or r.scheduled_at > v_now)
                and r.id <> all (coalesce(l.done, '{}'));
            if v_found.ids is not null then
                perform scheduler.close_runs(p_app, v_lease, v_found.ids);
                v_runs := v_runs || v_found.ids;
                v_instants := v_instants || v_found.instants;
            end if;
        end loop;
    end loop;

    delete from scheduler.fire f
    where f.app = p_app and f.job = p_job and f.scheduled_at > v_now and f.outcome = 'planned'
        and f.scheduled_at = any (v_instants) and f.run_id = any (v_runs);
    update scheduler.fire f set outcome = 'skipped', reason = p_reason, decided_at = v_now
    where f.app = p_app and f.job = p_job and f.outcome = 'planned'
        and f.scheduled_at = any (v_instants) and f.run_id = any (v_runs);
    return cardinality(v_runs);
end
$$;
comment on function scheduler.withdraw(text, text, text, boolean) is 'Takes back planned runs that nobody has started.';
