create or replace function scheduler.oldest_due(p_app text, p_before timestamptz)
returns table (queue text, executor text, run_at timestamptz, run_id bigint, job text)
language sql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_incremental_sort = off
set jit = off
as $$
    -- Of each queue and executor of an app, keyed or not, the run that has been due for longest, if that was before
    -- p_before. One probe of an index for each, however many runs wait. None of a paused app, and no events, which no
    -- worker takes.
    with recursive line (queue) as (
        (
            select r.queue::text from scheduler.run r where r.app = p_app and r.concurrency_key is null
            order by r.app, r.queue limit 1
        )
        union all
        select n.queue from line l
        cross join lateral (
            select r.queue::text from scheduler.run r
            where r.app = p_app and r.concurrency_key is null and r.queue > l.queue
            order by r.app, r.queue limit 1
        ) n
    ), key_lane (queue, executor, run_at, id, job) as (
        (
            select r.queue::text, r.executor::text, r.run_at, r.id, r.job from scheduler.run r
            where r.app = p_app and r.concurrency_key is not null
            order by r.app, r.queue, r.executor, r.run_at limit 1
        )
        union all
        select n.queue, n.executor, n.run_at, n.id, n.job
        from key_lane l
        cross join lateral (
            select r.queue::text, r.executor::text, r.run_at, r.id, r.job from scheduler.run r
            where r.app = p_app and r.concurrency_key is not null and (r.queue, r.executor) > (l.queue, l.executor)
            order by r.app, r.queue, r.executor, r.run_at limit 1
        ) n
    )
    select d.* from (
        select l.queue, a.executor, a.run_at, o.id, o.job
        from line l
        cross join lateral scheduler.lanes(p_app, l.queue) a
        cross join lateral (
            select r.id, r.job from scheduler.run r
            where r.app = p_app and r.queue = l.queue and r.priority = a.priority and r.executor = a.executor
                and r.concurrency_key is null and r.run_at = a.run_at
            order by r.app, r.queue, r.priority, r.executor, r.run_at, r.id limit 1
        ) o
        union all
        select k.queue, k.executor, k.run_at, k.id, k.job from key_lane k
    ) d
    where d.run_at < p_before and d.run_at > '-infinity' and d.executor <> 'event'
        and (select a.paused_at from scheduler.app a where a.app = p_app) is null
$$;
comment on function scheduler.oldest_due(text, timestamptz) is 'Of each queue and executor the run that has been due for longest.';
