create or replace function scheduler.due_jobs(
    p_server bigint, p_ahead interval, p_limit integer, p_new boolean default false,
    p_after_at timestamptz default null, p_after_app text default null, p_after_job text default null
) returns table (
    app text, epoch bigint, jobs text[], revisions bigint[], last_job text, schedule text, timezone text, dst_gap text,
    dst_fold text, overlap text, misfire text, misfire_grace interval, misfire_limit integer, jitter interval,
    starts_at timestamptz, ends_at timestamptz, next_at timestamptz, after_at timestamptz, anchor_at timestamptz,
    read_at timestamptz, limited boolean
)
language sql stable
-- Statistics lag behind a table that grows by a million rows in a minute; an index is right at any size. What has none
-- then costs so much by the estimate that it would be compiled, for 100 ms, if jit were not off as well.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
    -- A page of p_limit jobs of the apps that the server owns, earliest first: those whose next instant lies before
    -- now + p_ahead, and the deferred ones that are due; or with p_new those whose next instant is yet to be computed.
    -- (Apart, so that a million new definitions do not stand before what is due.) Jobs that are to be decided alike come
    -- as one row: 100,000 jobs of one schedule are read, evaluated and sent back as some 50 groups and not one by one.
    -- What others own and is due is walked over; they plan it within moments, and of the new they are stepped over.
    -- The next page begins after the next_at, app and last_job of the last row. Reads only: plan_fires checks again.
    select s.app, (select o.epoch from scheduler.owner o where o.app = s.app), array_agg(s.job), array_agg(s.revision),
        max(s.job), j.schedule, j.timezone, j.dst_gap, j.dst_fold, j.overlap, j.misfire, j.misfire_grace, j.misfire_limit,
        j.jitter, j.starts_at, j.ends_at, s.next_at,
        -- What does not bear on the decision does not part a group: cron knows no fractions of a second, @every does.
        case
            when isfinite(s.next_at) then null
            when j.schedule like '%@%' then s.after_at
            else date_trunc('second', s.after_at)
        end as after_at,
        case when j.schedule like '%@%' then s.anchor_at end as anchor_at,
        scheduler.clock(),
        -- Whether a limit bears on its runs, of those that may be fired from timers, which know of none; events, which no
        -- worker fires, are planned as rows for the same reason.
        j.schedule like '%@%' and (
            j.concurrency_key is not null or j.executor = 'event'
            or exists (select from scheduler.queue_limit q where q.app = s.app and q.queue = j.queue)
        )
    from (
        (
            select s.* from scheduler.job_schedule s
            where not p_new and s.deferred_at is null and s.next_at <= scheduler.clock() + p_ahead
                -- Later than -infinity, and one comparison, so that the index is entered at the page.
                and (s.next_at, s.app, s.job)
                    > (coalesce(p_after_at, '4713-01-01 BC'), coalesce(p_after_app, ''), coalesce(p_after_job, ''))
                and (select o.server from scheduler.owner o where o.app = s.app) = p_server
                and (select a.paused_at from scheduler.app a where a.app = s.app) is null
            order by s.next_at, s.app, s.job
            limit p_limit
        )
        union all
        (
            select s.* from scheduler.job_schedule s
            where not p_new and s.deferred_at is not null and s.next_at <= scheduler.clock()
                and (s.next_at, s.app, s.job)
                    > (coalesce(p_after_at, '-infinity'), coalesce(p_after_app, ''), coalesce(p_after_job, ''))
                and (select o.server from scheduler.owner o where o.app = s.app) = p_server
                and (select a.paused_at from scheduler.app a where a.app = s.app) is null
            order by s.next_at, s.app, s.job
            limit p_limit
        )
        union all
        (
            -- In the order of the index by the way they are found; an order that is asked for would be sorted, and all read.
            select s.*
            from (
                select p_after_app as app, p_after_job as job where p_new and p_after_app is not null
                union all
                select n.app, '' from scheduler.apps_with_new_jobs(coalesce(p_after_app, '')) n where p_new
            ) n
            cross join lateral (
                select s.* from scheduler.job_schedule s
                where s.next_at = '-infinity' and s.deferred_at is null and s.app = n.app and s.job > n.job
                order by s.next_at, s.app, s.job
                limit p_limit
            ) s
            where (select o.server from scheduler.owner o where o.app = n.app) = p_server
                and (select a.paused_at from scheduler.app a where a.app = n.app) is null
            limit p_limit
        )
        order by next_at, app, job
        limit p_limit
    ) s
    -- The offset keeps it a look-up by key for each row of the page.
    cross join lateral (select j.* from scheduler.job j where j.app = s.app and j.name = s.job offset 0) j
    group by s.app, s.next_at, 18, 19, 21, j.schedule, j.timezone, j.dst_gap, j.dst_fold, j.overlap, j.misfire,
        j.misfire_grace, j.misfire_limit, j.jitter, j.starts_at, j.ends_at,
        case when j.jitter > interval '0' then s.job end  -- it differs from job to job
    order by s.next_at, s.app, max(s.job)
$$;
comment on function scheduler.due_jobs(bigint, interval, integer, boolean, timestamptz, text, text) is
    'Jobs that have something to plan, those that are alike together.';
