create or replace function scheduler.silent_jobs(p_app text, p_job text, p_after text, p_since timestamptz, p_limit integer)
returns table (job text, is_silent boolean)
language sql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
    -- A page of an app's jobs behind p_after, or p_job alone, and whether each had no success since p_since, or none in
    -- its last 500 attempts: a job that only fails is not read for longer than that. A job that is paused, was defined or
    -- edited after p_since, or is for demand only unless it was asked for by name, is not silent.
    select j.name, j.updated_at < p_since and j.paused_at is null and (j.schedule is not null or p_job is not null)
        and (select a.paused_at from scheduler.app a where a.app = p_app) is null
        and not exists (
            select from (
                select h.outcome from scheduler.history h
                where h.app = p_app and h.job = j.name and h.finished_at > p_since
                order by h.id desc limit 500
            ) h
            where h.outcome = 'succeeded'
        )
    from (
        (
            select j.* from scheduler.job j where p_job is null and j.app = p_app and j.name > p_after
            order by j.app, j.name limit p_limit
        )
        union all
        select j.* from scheduler.job j where j.app = p_app and j.name = p_job
    ) j
$$;
comment on function scheduler.silent_jobs(text, text, text, timestamptz, integer) is 'Which jobs of a page had no success for long.';
