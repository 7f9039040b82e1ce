create or replace function scheduler.retire_worker(p_worker bigint) returns void
language sql as $$
    -- A worker says good-bye after it finished or released what it held. What it holds nevertheless is reclaimed.
    update scheduler.worker w set stopped_at = scheduler.clock()
    where w.id = p_worker and w.dead_at is null and w.stopped_at is null
$$;
comment on function scheduler.retire_worker(bigint) is 'A worker''s good-bye.';
