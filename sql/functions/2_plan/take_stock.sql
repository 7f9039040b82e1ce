create or replace function scheduler.take_stock(
    p_ahead interval, out due_in interval, out deferred_in interval, out waits boolean
)
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
begin
    -- What a planner asks first, and an idle one only: one statement where there were five. Lets go on what waited for
    -- the end of a run. due_in: how long until there is something to plan, as next_plan_at has it; deferred_in: until a
    -- deferred instant is to be decided; waits: whether anything goes on waiting for the end of a run.
    -- In this order: only the first may wait for a lock, and then it holds none of job_schedule.
    perform scheduler.release_waiting();
    perform scheduler.recall_deferred();
    perform scheduler.schedule_after();
    due_in := scheduler.next_plan_at(p_ahead);
    -- One whose next instant is to be computed again (its app was paused meanwhile) is due, too.
    select case when isfinite(s.next_at) then s.next_at - scheduler.clock() else interval '-1 day' end into deferred_in
    from scheduler.job_schedule s
    where s.next_at is not null and s.deferred_at is not null
        and (select a.paused_at from scheduler.app a where a.app = s.app) is null
    order by s.next_at
    limit 1;
    waits := deferred_in is not null
        or exists (select from scheduler.job_schedule s where s.awaits is not null)
        or exists (select from scheduler.run r where r.run_at = 'infinity' and r.job is not null);
end
$$;
comment on function scheduler.take_stock(interval) is 'Lets go on what waited, and says when there is something to plan.';
