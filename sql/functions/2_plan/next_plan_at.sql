create or replace function scheduler.next_plan_at(p_ahead interval) returns interval
language sql stable as $$
    -- How long until a job that is not yet within p_ahead will be; null: there is none.
    select min(s.next_at) - scheduler.clock() - p_ahead
    from scheduler.job_schedule s
    where s.next_at > scheduler.clock() + p_ahead
$$;
comment on function scheduler.next_plan_at(interval) is 'How long a planner that has planned everything may sleep.';
