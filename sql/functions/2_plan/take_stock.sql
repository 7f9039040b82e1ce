create or replace function scheduler.take_stock(
    p_server bigint, p_ahead interval, p_within interval, out due_in interval, out deferred_in interval, out waits boolean
)
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
begin
    -- What a planner asks first, and an idle one only: one statement where there were five. All of it is about the apps
    -- that the server owns. Lets go on what waited for the end of a run. due_in: how long until there is something to
    -- plan, as next_plan_at has it; deferred_in: until a deferred instant is to be decided, null if not within p_within;
    -- waits: whether anything goes on waiting for the end of a run.
    -- In this order: only the first may wait for a lock, and then it holds none of job_schedule.
    perform scheduler.release_waiting(p_server);
    perform scheduler.recall_deferred(p_server);
    perform scheduler.schedule_after(p_server);
    due_in := scheduler.next_plan_at(p_server, p_ahead, p_within);
    -- One whose next instant is to be computed again (its app was paused meanwhile) is due, too.
    select case when isfinite(s.next_at) then s.next_at - scheduler.clock() else interval '-1 day' end into deferred_in
    from scheduler.job_schedule s
    where s.next_at <= scheduler.clock() + p_within and s.deferred_at is not null
        and (select o.server from scheduler.owner o where o.app = s.app) = p_server
        and (select a.paused_at from scheduler.app a where a.app = s.app) is null
    order by s.next_at
    limit 1;
    waits := exists (
            select from scheduler.job_schedule s
            where s.deferred_at is not null and (select o.server from scheduler.owner o where o.app = s.app) = p_server
        )
        or exists (
            select from scheduler.job_schedule s
            where s.awaits is not null and (select o.server from scheduler.owner o where o.app = s.app) = p_server
        )
        or exists (
            select from scheduler.run r
            where r.run_at = 'infinity' and r.job is not null
                and (select o.server from scheduler.owner o where o.app = r.app) = p_server
        );
end
$$;
comment on function scheduler.take_stock(bigint, interval, interval) is
    'Lets go on what waited, and says when there is something to plan.';
