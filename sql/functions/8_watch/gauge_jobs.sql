create or replace function scheduler.gauge_jobs(p_server bigint, p_after_app text, p_after_job text, p_limit integer)
returns table (app text, job text, next_due double precision, is_invalid boolean)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
begin
    -- The next p_limit jobs behind a place, of the apps that the server owns: when each is due next, in seconds since the
    -- epoch (null: it has no instant to come, or it is yet to be computed), and whether its schedule cannot be followed.
    return query
    select o.app, s.job, case when isfinite(s.next_at) then extract(epoch from s.next_at)::float8 end,
        s.error is not null
    from (
        select o.app from scheduler.owner o where o.server = p_server and o.app >= p_after_app order by o.app offset 0
    ) o
    cross join lateral (
        select s.job, s.next_at, s.error from scheduler.job_schedule s
        where s.app = o.app and s.job > case when o.app = p_after_app then p_after_job else '' end
        order by s.job
        limit p_limit
    ) s
    limit p_limit;
end
$$;
comment on function scheduler.gauge_jobs(bigint, text, text, integer) is 'The jobs that a server plans, a page at a time.';
