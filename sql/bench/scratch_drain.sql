-- The least that a queue with a history has to do: take the next rows, in their order and by their place, and keep them
-- as ended. No lease, no worker, one statement.
with gone as (
    delete from run r
    where r.ctid = any (array(
        select d.ctid from run d
        where d.app = $1 and d.queue = 'default' and d.priority = 0 and d.executor = 'python'
            and d.concurrency_key is null and d.run_at <= scheduler.clock()
        order by d.run_at, d.id
        limit $2
        for update skip locked
    ))
    returning r.*
), noted as (
    insert into history (
        app, queue, id, job, executor, spec, outcome, attempt, priority, max_attempts, timeout, retry_delay,
        retry_max_delay, run_at, scheduled_at, started_at, finished_at, worker, fence, unique_key, tags
    )
    select g.app, g.queue, g.id, g.job, g.executor, g.spec, 'succeeded', g.attempt + 1, g.priority, g.max_attempts,
        g.timeout, g.retry_delay, g.retry_max_delay, g.run_at, g.scheduled_at, scheduler.clock(), scheduler.clock(), 1, 1,
        g.unique_key, g.tags
    from gone g
)
select count(*) from gone
