create or replace function scheduler.plan_pulses(p_app text, p_server bigint, p_epoch bigint, p_plans jsonb) returns integer
language plpgsql
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_count integer;
begin
    -- Hands jobs of one app with a short period over to the workers, who fire them from their own timers: the planner has
    -- nothing more to decide (next_at null) until an edit or a resume. p_plans is an array of objects
    --   {jobs, revisions, expected, next, period, from_end}
    -- and for a job void under the same conditions as in plan_fires. Of a job that a worker still holds in an earlier
    -- version, this is what comes after it. Returns how many were handed over: none when the server does not own the app
    -- under this epoch any more, as in plan_fires.
    perform from scheduler.owner o where o.app = p_app and o.server = p_server and o.epoch = p_epoch for share;
    if not found then
        return 0;
    end if;
    with held as materialized (
        select u.job, u.revision, s.place, p.next, p.period, p.from_end
        from jsonb_to_recordset(p_plans) as p (
            jobs text[], revisions bigint[], expected timestamptz, next timestamptz, period interval, from_end boolean
        )
        cross join lateral unnest(p.jobs, p.revisions) as u (job, revision)
        cross join lateral (
            select s.ctid as place from scheduler.job_schedule s
            where s.app = p_app and s.job = u.job and s.revision = u.revision and s.next_at = p.expected
            for update skip locked
        ) s
    ), written as (
        insert into scheduler.pulse as o (app, job, revision, period, from_end, anchor_at)
        select p_app, h.job, h.revision, h.period, h.from_end, h.next from held h order by h.job
        on conflict (app, job) do update set
            revision = excluded.revision, period = excluded.period, from_end = excluded.from_end,
            anchor_at = excluded.anchor_at
    )
    update scheduler.job_schedule s set next_at = null, delay = null, awaits = null, deferred_at = null, error = null
    where s.ctid = any (array(select h.place from held h));
    get diagnostics v_count = row_count;
    if v_count > 0 then
        perform pg_notify('scheduler_pulse', '');
    end if;
    return v_count;
end
$$;
comment on function scheduler.plan_pulses(text, bigint, bigint, jsonb) is 'Hands jobs of a short period over to workers'' own timers.';
