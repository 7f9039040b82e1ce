create or replace function scheduler.apps_with_new_jobs(p_after text default '') returns table (app text)
language sql stable as $$
    -- Apps later than p_after with definitions whose first instant is yet to be computed, whoever owns them, by name. One
    -- index probe each, however many definitions there are: a million of another server's are stepped over at once.
    -- Inlined into the statement that asks, so that who wants the first one reads no further.
    with recursive fresh (app) as (
        (
            select s.app from scheduler.job_schedule s
            where s.next_at = '-infinity' and s.deferred_at is null and s.app > p_after
            order by s.next_at, s.app, s.job
            limit 1
        )
        union all
        select n.app
        from fresh f
        cross join lateral (
            select s.app from scheduler.job_schedule s
            where s.next_at = '-infinity' and s.deferred_at is null and s.app > f.app
            order by s.next_at, s.app, s.job
            limit 1
        ) n
    )
    select f.app from fresh f
$$;
comment on function scheduler.apps_with_new_jobs(text) is 'Apps that have definitions nobody has looked at yet.';
