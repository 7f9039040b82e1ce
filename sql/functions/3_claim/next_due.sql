drop function if exists scheduler.next_due(text[], text[], text[]);
create or replace function scheduler.next_due(
    p_apps text[] default null, p_queues text[] default null, p_executors text[] default null,
    p_skip_apps text[] default '{}', p_skip_queues text[] default '{}'
) returns table (app text, queue text, due_in interval, keyed boolean, limited boolean)
language plpgsql stable
security definer set search_path = pg_catalog, pg_temp
-- Reads by key whatever the statistics say, with a plan that is kept. Without these it took 20 to 105 ms with 100,000 runs
-- about to be due, in which their worker claimed nothing; with them 1.5, most of it to plan.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_incremental_sort = off
set jit = off
as $$
#variable_conflict use_column
begin
    -- The queues that hold runs which a worker of these apps, queues and executors (null: all) could execute, and how
    -- long until the earliest of each is due; negative: it is late. One index probe per lane, so that it may be asked
    -- every second over millions of rows. Paused apps are left out, and so are runs that wait for their job.
    -- Runs with concurrency keys have rows of their own (keyed): one if something is due, whether or not its keys have
    -- slots left, and one for what is due next. What is limited, by keys or for the queue, may not be claimed before it
    -- is due. Queues whose slots are all taken are left out, and one without tokens is due when it gets the next.
    -- Runs without keys of the queues (p_skip_apps, p_skip_queues) are left out, and their entries not even touched: the
    -- worker drains these queues, and the head of their index is full of what was claimed: 60 to 90 ms for each look.
    if session_user <> current_user or current_setting('role') <> 'none' then
        perform scheduler.admit(a.one) from unnest(p_apps) as a (one);
        p_apps := coalesce(p_apps, scheduler.apps_allowed());
    end if;
    return query
    with recursive skip as materialized (
        select s.app, s.queue from unnest(p_skip_apps, p_skip_queues) as s (app, queue)
    ), lane (app, queue, skipped) as (
        select ''::text, ''::text, true
        union all
        select n.app, n.queue, n.skipped
        from lane l
        left join lateral (
            select s.app, s.queue from skip s where (s.app, s.queue) > (l.app, l.queue) order by s.app, s.queue limit 1
        ) s on true
        cross join lateral (
            select b.app::text, b.queue::text, b.skipped
            from (
                (
                    select r.app, r.queue, false as skipped from scheduler.run r
                    where r.concurrency_key is null and (r.app, r.queue) > (l.app, l.queue)
                        and (r.app, r.queue) < (s.app, s.queue)
                    order by r.app, r.queue, r.priority, r.executor, r.run_at, r.id limit 1
                )
                union all
                select s.app, s.queue, true where s.app is not null
                union all
                (
                    select r.app, r.queue, false from scheduler.run r
                    where s.app is null and r.concurrency_key is null and (r.app, r.queue) > (l.app, l.queue)
                    order by r.app, r.queue, r.priority, r.executor, r.run_at, r.id limit 1
                )
            ) b
            limit 1
        ) n
    ), key_lane as (
        (
            select r.app, r.queue, r.executor, r.run_at from scheduler.run r where r.concurrency_key is not null
            order by r.app, r.queue, r.executor, r.run_at limit 1
        )
        union all
        select n.app, n.queue, n.executor, n.run_at
        from key_lane l
        cross join lateral (
            select r.app, r.queue, r.executor, r.run_at from scheduler.run r
            where r.concurrency_key is not null and (r.app, r.queue, r.executor) > (l.app, l.queue, l.executor)
            order by r.app, r.queue, r.executor, r.run_at limit 1
        ) n
    ), due as (
        select q.app, q.queue, min(l.run_at) as run_at, false as keyed
        from lane q
        cross join lateral scheduler.lanes(q.app, q.queue) l
        where not q.skipped and l.run_at < 'infinity'
            and (p_apps is null or q.app = any (p_apps)) and (p_queues is null or q.queue = any (p_queues))
            and (p_executors is null or l.executor = any (p_executors)) and l.executor <> 'event'
        group by q.app, q.queue
        union all
        select k.app, k.queue, min(n.run_at), true
        from key_lane k
        cross join lateral (
            select k.run_at
            union all
            (
                select r.run_at from scheduler.run r
                where r.app = k.app and r.queue = k.queue and r.executor = k.executor and r.concurrency_key is not null
                    and r.run_at > scheduler.clock() and k.run_at <= scheduler.clock()
                order by r.run_at limit 1
            )
        ) n
        where n.run_at < 'infinity'
            and (p_apps is null or k.app = any (p_apps)) and (p_queues is null or k.queue = any (p_queues))
            and (p_executors is null or k.executor = any (p_executors)) and k.executor <> 'event'
        group by k.app, k.queue, n.run_at <= scheduler.clock()
    )
    select d.app::text, d.queue::text, greatest(d.run_at - scheduler.clock(), case when r.wait > '0' then r.wait end), d.keyed,
        d.keyed or r.taken is not null
    from due d
    left join lateral scheduler.leeway(d.app, d.queue) r on true
    where not exists (select from scheduler.app a where a.app = d.app and a.paused_at is not null)
        and (r.slots is null or r.slots > 0)
    order by 3;
end
$$;
comment on function scheduler.next_due(text[], text[], text[], text[], text[]) is 'Queues with work for a worker, and when it is due.';
