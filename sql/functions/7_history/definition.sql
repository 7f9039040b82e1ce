create or replace function scheduler.definition(p_job scheduler.job, p_salt text) returns json
language sql stable parallel safe as $$
    -- A job as the audit keeps it: without its name, which the entry has, and without created_at and updated_at, which tell
    -- nothing that the entry does not. Column by column: half of what it takes to turn the row into jsonb and to take
    -- columns out of it.
    select json_build_object(
        'schedule', p_job.schedule, 'timezone', p_job.timezone, 'executor', p_job.executor,
        'spec', scheduler.masked(p_job.spec, p_salt),
        'queue', p_job.queue, 'priority', p_job.priority, 'max_attempts', p_job.max_attempts, 'timeout', p_job.timeout,
        'retry_delay', p_job.retry_delay, 'retry_max_delay', p_job.retry_max_delay, 'overlap', p_job.overlap,
        'misfire', p_job.misfire, 'misfire_grace', p_job.misfire_grace, 'misfire_limit', p_job.misfire_limit,
        'dst_gap', p_job.dst_gap, 'dst_fold', p_job.dst_fold, 'jitter', p_job.jitter, 'starts_at', p_job.starts_at,
        'ends_at', p_job.ends_at, 'paused_at', p_job.paused_at, 'tags', p_job.tags,
        'concurrency_key', p_job.concurrency_key, 'concurrency_limit', p_job.concurrency_limit
    )
$$;
comment on function scheduler.definition(scheduler.job, text) is 'A job as the audit keeps it.';
