create or replace function scheduler.next_plan_at(p_ahead interval) returns interval
language sql stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
    -- How long until a job that is not deferred has an instant within p_ahead. Zero or less: one has now, or is a new
    -- definition (-1 day); null: there is none. Jobs of paused apps have nothing to come.
    select case when isfinite(s.next_at) then s.next_at - scheduler.clock() - p_ahead else interval '-1 day' end
    from scheduler.job_schedule s
    where s.next_at is not null and s.deferred_at is null
        and (select a.paused_at from scheduler.app a where a.app = s.app) is null
    order by s.next_at
    limit 1
$$;
comment on function scheduler.next_plan_at(interval) is 'How long a planner that has planned everything may sleep.';
