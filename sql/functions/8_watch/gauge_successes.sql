create or replace function scheduler.gauge_successes(p_apps text[], p_jobs text[], p_looked integer, p_instants integer)
returns table (app text, job text, succeeded double precision, instants bigint)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_now timestamptz := scheduler.clock();
begin
    -- Of each job (the arrays run parallel): when it last succeeded, in seconds since the epoch, among its last p_looked
    -- attempts (null: none of them did), and how many of its instants have passed since, counted up to p_instants. Each
    -- is a look by key, so the answer costs as much as there are jobs asked about, however long their history is.
    return query
    select j.app, j.job, extract(epoch from h.finished_at)::float8, f.instants
    from unnest(p_apps, p_jobs) as j (app, job)
    cross join lateral (
        select from scheduler.job_schedule s where s.app = j.app and s.job = j.job  -- of those that the asker may see
    ) s
    left join lateral (
        select l.finished_at
        from (
            select h.outcome, h.finished_at from scheduler.history h
            where h.app = j.app and h.job = j.job
            order by h.id desc
            limit p_looked
        ) l
        where l.outcome = 'succeeded'
        limit 1
    ) h on true
    cross join lateral (
        select coalesce(sum(c.instants), 0)::bigint as instants
        from (
            select coalesce(f.instants, 1) as instants from scheduler.fire f
            where f.app = j.app and f.job = j.job and f.scheduled_at <= v_now
                and f.scheduled_at > coalesce(h.finished_at, '-infinity')
            order by f.scheduled_at desc
            limit p_instants
        ) c
    ) f;
end
$$;
comment on function scheduler.gauge_successes(text[], text[], integer, integer) is
    'When jobs last succeeded, and how many of their instants passed since.';
