create or replace function scheduler.release_waiting(p_server bigint) returns integer
language plpgsql
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
    v_count integer;
begin
    -- Lets the oldest waiting run of each job (overlap queue or replace) start, once no other run of the job is pending
    -- or running. The rare update in place: one row per instant that had to wait. Only of apps that the server owns; that
    -- is read in the statement which writes. Returns how many were let go.
    if not exists (select from scheduler.run w where w.run_at = 'infinity' and w.job is not null) then
        return 0;
    end if;
    with leased as materialized (
        select distinct l.app, l.job from scheduler.leased_runs() l
    ), waiting as materialized (
        select distinct on (w.app, w.job) w.app, w.job, w.ctid as place
        from scheduler.run w
        where w.run_at = 'infinity' and w.job is not null
            and (select o.server from scheduler.owner o where o.app = w.app) = p_server
        order by w.app, w.job, w.scheduled_at
    ), next as materialized (
        select w.place
        from waiting w
        where (w.app, w.job) not in (select l.app, l.job from leased l)
            and (
                select o.id from scheduler.run o where o.app = w.app and o.job = w.job and o.run_at < 'infinity'
                order by o.scheduled_at limit 1
            ) is null
    )
    update scheduler.run r set run_at = scheduler.clock()
    from next n
    where r.ctid = n.place and r.run_at = 'infinity';
    get diagnostics v_count = row_count;
    if v_count > 0 then
        perform pg_notify('scheduler_run', '');
    end if;
    return v_count;
end
$$;
comment on function scheduler.release_waiting(bigint) is 'Lets runs start that waited for their job''s previous run.';
