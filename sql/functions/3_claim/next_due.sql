create or replace function scheduler.next_due(
    p_apps text[] default null, p_queues text[] default null, p_executors text[] default null
) returns table (app text, queue text, due_in interval)
language sql stable
-- Reads by key whatever the statistics say; nor is it merged into the caller's statement, whose plan is kept. Without
-- these it took 20 to 105 ms with 100,000 runs about to be due, in which their worker claimed nothing; with them 1.5.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
    -- The queues that hold runs which a worker of these apps, queues and executors (null: all) could execute, and how
    -- long until the earliest of each is due; negative: it is late. One index probe per lane, so that it may be asked
    -- every second over millions of rows. Paused apps are left out, and so are runs that wait for their job.
    with recursive lane as (
        (select r.app, r.queue from scheduler.run r order by r.app, r.queue limit 1)
        union all
        select n.app, n.queue
        from lane l
        cross join lateral (
            select r.app, r.queue from scheduler.run r where (r.app, r.queue) > (l.app, l.queue)
            order by r.app, r.queue limit 1
        ) n
    )
    select q.app, q.queue, min(l.run_at) - scheduler.clock()
    from lane q
    cross join lateral scheduler.lanes(q.app, q.queue) l
    where (p_apps is null or q.app = any (p_apps)) and (p_queues is null or q.queue = any (p_queues))
        and (p_executors is null or l.executor = any (p_executors)) and l.run_at < 'infinity'
        and not exists (select from scheduler.app a where a.app = q.app and a.paused_at is not null)
    group by q.app, q.queue
    order by 3
$$;
comment on function scheduler.next_due(text[], text[], text[]) is 'Queues with work for a worker, and when it is due.';
