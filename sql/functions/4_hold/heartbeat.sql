drop function if exists scheduler.heartbeat(bigint);
create or replace function scheduler.heartbeat(
    p_worker bigint, p_clock_ahead double precision default null, out now timestamptz, out cancels bigint[]
)
language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
begin
    -- Says that the worker lives; returns the database's time and the runs it holds whose cancellation was asked for.
    -- p_clock_ahead: by how many seconds its machine's clock is ahead of the database's, for people to see.
    -- A worker that was declared dead gets JS004: others have its work, and nothing it still reports will count.
    if session_user <> current_user or current_setting('role') <> 'none' then
        perform scheduler.admit_worker(p_worker);
    end if;
    update scheduler.worker w set seen_at = scheduler.clock(), clock_ahead = coalesce(p_clock_ahead, w.clock_ahead)
    where w.id = p_worker and w.dead_at is null and w.stopped_at is null;
    if not found then
        raise exception 'worker % is not registered, has stopped or was declared dead', p_worker using
            errcode = 'JS004', hint = 'Stop what it runs, register again and go on with the new id.';
    end if;
    now := scheduler.clock();
    select coalesce(array_agg(c.run), '{}') into cancels
    from scheduler.lease l
    cross join lateral unnest(l.cancel) as c (run)
    where l.worker = p_worker and c.run <> all (coalesce(l.done, '{}'));
end
$$;
comment on function scheduler.heartbeat(bigint, double precision) is
    'A worker''s sign of life; returns the time and asked-for cancellations.';
