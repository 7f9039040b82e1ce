create or replace function scheduler.due_jobs(
    p_ahead interval, p_limit integer, p_after_at timestamptz default null, p_after_app text default null,
    p_after_job text default null
) returns table (
    app text, job text, schedule text, timezone text, dst_gap text, dst_fold text, overlap text, misfire text,
    misfire_grace interval, misfire_limit integer, jitter interval, starts_at timestamptz, ends_at timestamptz,
    next_at timestamptz, after_at timestamptz, anchor_at timestamptz, revision bigint, read_at timestamptz
)
language sql stable as $$
    -- The jobs whose next instant lies before now + p_ahead, or is yet to be computed, earliest first, a page at a time
    -- (pass the last row's next_at, app and job to get the next page). Reads only: plan_fires checks again what it writes.
    select s.app, s.job, j.schedule, j.timezone, j.dst_gap, j.dst_fold, j.overlap, j.misfire, j.misfire_grace,
        j.misfire_limit, j.jitter, j.starts_at, j.ends_at, s.next_at, s.after_at, s.anchor_at, s.revision, scheduler.clock()
    from scheduler.job_schedule s
    join scheduler.job j on j.app = s.app and j.name = s.job
    where s.next_at <= scheduler.clock() + p_ahead
        and (p_after_at is null or (s.next_at, s.app, s.job) > (p_after_at, p_after_app, p_after_job))
        and not exists (select from scheduler.app a where a.app = s.app and a.paused_at is not null)
    order by s.next_at, s.app, s.job
    limit p_limit
$$;
comment on function scheduler.due_jobs(interval, integer, timestamptz, text, text) is 'Jobs that have something to plan.';
