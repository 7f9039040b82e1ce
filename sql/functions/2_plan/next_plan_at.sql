create or replace function scheduler.next_plan_at(p_server bigint, p_ahead interval, p_within interval) returns interval
language sql stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
    -- How long until a job of the server's apps that is not deferred has an instant within p_ahead. Zero or less: one has
    -- now, or is a new definition (-1 day); null: there is none within p_within. Jobs of paused apps have nothing to come.
    -- What others own is stepped over: an app's jobs of one instant together, and nothing that comes later than p_within
    -- is looked at. Otherwise a server whose only job comes tomorrow would walk over all of today's, every second.
    select case
        when exists (
            select from scheduler.apps_with_new_jobs() n
            where (select o.server from scheduler.owner o where o.app = n.app) = p_server
                and (select a.paused_at from scheduler.app a where a.app = n.app) is null
        ) then interval '-1 day'
        else (
            with recursive next (next_at, app) as (
                (
                    select s.next_at, s.app from scheduler.job_schedule s
                    where s.next_at > '4713-01-01 BC' and s.next_at <= scheduler.clock() + p_ahead + p_within
                        and s.deferred_at is null
                    order by s.next_at, s.app, s.job
                    limit 1
                )
                union all
                select f.next_at, f.app
                from next n
                cross join lateral (
                    select s.next_at, s.app from scheduler.job_schedule s
                    where (s.next_at, s.app) > (n.next_at, n.app) and s.next_at <= scheduler.clock() + p_ahead + p_within
                        and s.deferred_at is null
                    order by s.next_at, s.app, s.job
                    limit 1
                ) f
            )
            select n.next_at - scheduler.clock() - p_ahead
            from next n
            where (select o.server from scheduler.owner o where o.app = n.app) = p_server
                and (select a.paused_at from scheduler.app a where a.app = n.app) is null
            limit 1
        )
    end
$$;
comment on function scheduler.next_plan_at(bigint, interval, interval) is
    'How long a planner that has planned everything may sleep.';
