create or replace function scheduler.limit_queue(
    p_app text, p_queue text, p_concurrency_limit integer default null, p_rate_limit integer default null,
    p_rate_interval interval default '1 second'
) returns void
language plpgsql as $$
begin
    -- What a queue is allowed from now on, as its whole: what is null has no limit any more. Runs that are held already
    -- count, and none of them is stopped. The bucket keeps the level it has. Workers that waited are woken.
    if p_concurrency_limit is null and p_rate_limit is null then
        delete from scheduler.queue_limit l where l.app = p_app and l.queue = p_queue;
    else
        insert into scheduler.queue_limit as l (app, queue, concurrency_limit, rate_limit, rate_interval)
        values (p_app, p_queue, p_concurrency_limit, p_rate_limit, coalesce(p_rate_interval, '1 second'))
        on conflict on constraint queue_limit_pkey do update set
            concurrency_limit = excluded.concurrency_limit, rate_limit = excluded.rate_limit,
            rate_interval = excluded.rate_interval,
            full_at = least(l.full_at, scheduler.clock() + excluded.rate_interval);
    end if;
    perform pg_notify('scheduler_run', p_app || E'\t' || p_queue);
end
$$;
comment on function scheduler.limit_queue(text, text, integer, integer, interval) is
    'Sets how many runs of a queue are held at once, and started in a time; nulls: no limit.';
