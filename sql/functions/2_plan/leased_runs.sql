create or replace function scheduler.leased_runs(p_app text default null, p_jobs text[] default null)
returns table (app text, job text, id bigint)
language sql stable as $$
    -- The open runs of jobs that workers hold; of one app, or of these jobs, if so asked. A lease that holds none of the
    -- jobs is not unpacked. The sets are compared by hash: `jobs && p_jobs` would compare each name with each other.
    select l.app, r.job, r.id
    from scheduler.lease l
    cross join lateral unnest(l.runs) r
    where (p_app is null or l.app = p_app) and l.jobs is not null and r.job is not null
        and (
            p_jobs is null
            or exists (select from unnest(l.jobs) as j (job) where j.job in (select p.job from unnest(p_jobs) as p (job)))
                and r.job in (select p.job from unnest(p_jobs) as p (job))
        )
        and r.id <> all (coalesce(l.done, '{}'))
$$;
comment on function scheduler.leased_runs(text, text[]) is 'Runs of jobs that workers hold and that have not ended.';
