create or replace function scheduler.report_pulses(p_app text, p_worker bigint, p_spans jsonb)
returns table (lease bigint, run_id bigint)
language plpgsql
security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_now timestamptz := scheduler.clock();
begin
    -- Writes down what a worker fired since its last report: a row of history for each job, and rows of the ledger for the
    -- instants that were fired, skipped (the fire before had not ended) and missed (too late, or nobody held the job).
    -- p_spans is an array of objects
    --   {job, lease, run_id, after, first, last, fires, failures, started, finished, error, result, skipped, missed}
    -- whose instants are seconds since the epoch; skipped and missed are null or {first, last, count}; without fires
    -- nothing of them is in history. Returns for each lease that is the worker's the run_id of its next span; any other
    -- changes nothing and is left out. A span that was counted already, but whose answer was lost, is known by its run_id.
    if session_user <> current_user or current_setting('role') <> 'none' then
        perform scheduler.admit(p_app);
    end if;
    return query
    with span as materialized (
        select s.*
        from jsonb_to_recordset(p_spans) as s (
            job text, lease bigint, run_id bigint, after float8, first float8, last float8, fires integer, failures integer,
            started float8, finished float8, error text, result jsonb, skipped jsonb, missed jsonb
        )
        order by s.job
    ), held as materialized (
        select s.*, p.place, p.current_id, p.gap, p.run
        from span s
        cross join lateral (
            select p.ctid as place, p.run_id as current_id, p.gap, p.run from scheduler.pulse p
            where p.app = p_app and p.job = s.job and p.worker = p_worker and p.lease = s.lease
            for update
        ) p
    ), counted as materialized (
        select h.* from held h where h.run_id = h.current_id
    ), noted as (
        insert into scheduler.history (
            app, queue, id, job, executor, spec, outcome, attempt, priority, max_attempts, timeout, run_at, scheduled_at,
            started_at, finished_at, worker, fence, error, result, tags
        )
        select p_app, (c.run).queue, c.run_id, c.job, (c.run).executor, (c.run).spec,
            case when c.failures > 0 then 'failed' else 'succeeded' end, 1, (c.run).priority, 1, (c.run).timeout,
            to_timestamp(c.first), to_timestamp(c.first), to_timestamp(c.started), to_timestamp(c.finished), p_worker,
            c.lease, c.error, c.result, (c.run).tags
        from counted c
        where c.fires > 0
    ), written as (
        insert into scheduler.fire (app, job, scheduled_at, outcome, reason, run_id, decided_at, instants, last_at)
        select p_app, c.job, to_timestamp(i.first), i.outcome, i.reason, i.run_id, v_now, i.count, to_timestamp(i.last)
        from counted c
        cross join lateral (
            select 'fired' as outcome, null as reason, c.run_id as run_id, c.first, c.last, c.fires as count
            where c.fires > 0
            union all
            select 'skipped', 'overlap: the fire before had not ended', null, s.*
            from jsonb_to_record(c.skipped) as s (first float8, last float8, count integer)
            where s.count > 0
            union all
            select 'missed', coalesce(c.gap, 'misfire: no worker could fire it in time'), null, m.*
            from jsonb_to_record(c.missed) as m (first float8, last float8, count integer)
            where m.count > 0
        ) i
        on conflict do nothing
    ), moved as (
        update scheduler.pulse p set
            run_id = nextval('scheduler.run_id'), reported_at = v_now, after_at = greatest(p.after_at, to_timestamp(c.after)),
            lost = case when c.fires > 0 then 0 else p.lost end, gap = null
        from counted c
        where p.ctid = c.place
        returning p.lease, p.run_id
    )
    select h.lease, coalesce(m.run_id, h.current_id) from held h left join moved m on m.lease = h.lease;
end
$$;
comment on function scheduler.report_pulses(text, bigint, jsonb) is 'What a worker fired from its timers since its last report.';
