create or replace function scheduler.lanes(p_app text, p_queue text) returns table (
    priority smallint, executor text, run_at timestamptz
)
language sql stable as $$
    -- The lanes (priority, executor) of a queue that hold runs without concurrency keys, each with the start of its
    -- earliest one, by a loose walk over the index run_due: one probe per lane, however many runs there are. Scanning each
    -- lane on its own keeps a million future rows of priority 0, or of an executor the worker does not have, out of a
    -- claim's way.
    with recursive lane as (
        (
            select r.priority, r.executor, r.run_at from scheduler.run r
            where r.app = p_app and r.queue = p_queue and r.concurrency_key is null
            order by r.priority, r.executor, r.run_at limit 1
        )
        union all
        select n.priority, n.executor, n.run_at
        from lane l
        cross join lateral (
            select r.priority, r.executor, r.run_at from scheduler.run r
            where r.app = p_app and r.queue = p_queue and r.concurrency_key is null
                and (r.priority, r.executor) > (l.priority, l.executor)
            order by r.priority, r.executor, r.run_at limit 1
        ) n
    )
    select l.priority, l.executor, l.run_at from lane l
$$;
comment on function scheduler.lanes(text, text) is 'The (priority, executor) lanes of a queue and their earliest run.';
