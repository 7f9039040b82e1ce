create or replace function scheduler.schedule_after(p_server bigint) returns integer
language plpgsql
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_count integer;
begin
    -- Gives @after jobs their next instant, delay after the end of the run they awaited. A run that left no trace (its
    -- history was dropped, or it was withdrawn) counts as ended now. Only of apps that the server owns; that is read in
    -- the statement which writes. Returns how many jobs were given one.
    -- History is asked last: it has a partition per day, and most of the awaited runs are pending or running.
    if not exists (select from scheduler.job_schedule w where w.awaits is not null) then
        return 0;
    end if;
    with leased as materialized (
        select l.app, l.id from scheduler.leased_runs() l
    ), ended as materialized (
        select w.app, w.job, w.awaits
        from scheduler.job_schedule w
        where w.awaits is not null
            and (select o.server from scheduler.owner o where o.app = w.app) = p_server
            and (w.app, w.awaits) not in (select l.app, l.id from leased l)
            and (select r.id from scheduler.run r where r.app = w.app and r.id = w.awaits) is null
    ), held as materialized (
        -- Looked up again, so that a row which changed since it was seen is compared with what was seen of it.
        select e.app, e.awaits, w.place
        from ended e
        cross join lateral (
            select w.ctid as place from scheduler.job_schedule w
            where w.app = e.app and w.job = e.job and w.awaits = e.awaits
            for update skip locked
        ) w
    )
    update scheduler.job_schedule s set next_at = coalesce(h.finished_at, scheduler.clock()) + s.delay, awaits = null
    from held e
    left join lateral (
        select h.finished_at from scheduler.history h
        where h.app = e.app and h.id = e.awaits and h.retry_at is null
        limit 1
    ) h on true
    where s.ctid = e.place;
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
comment on function scheduler.schedule_after(bigint) is 'Sets the next instant of @after jobs whose run ended.';
