create or replace function scheduler.begin(p_app text, p_worker bigint, p_lease bigint) returns bigint[]
language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_begun timestamptz;
    v_done  bigint[];
begin
    -- Declares, before the first of its runs starts, that a prefetched lease is being executed; returns those of its runs
    -- that must not be: they were cancelled, withdrawn or taken back meanwhile. Null: none of the lease may be executed,
    -- it is not the worker's any more, or its app is paused and it was given back. From here on a crash of the worker
    -- costs these runs an attempt, before it did not.
    if session_user <> current_user or current_setting('role') <> 'none' then
        perform scheduler.admit(p_app);
    end if;
    select l.begun_at, coalesce(l.done, '{}') into v_begun, v_done from scheduler.lease l
    where l.app = p_app and l.id = p_lease and l.worker = p_worker
    for update;
    if not found then
        return null;
    end if;
    -- Only what was not begun: of a lease that was, runs may be executing, and would be started twice.
    if v_begun is null and exists (select from scheduler.app a where a.app = p_app and a.paused_at is not null) then
        perform scheduler.release(p_app, p_worker, p_lease);
        return null;
    end if;
    update scheduler.lease l set begun_at = scheduler.clock()
    where l.app = p_app and l.id = p_lease and l.begun_at is null;
    return v_done;
end
$$;
comment on function scheduler.begin(text, bigint, bigint) is
    'Declares a prefetched lease started; returns what of it must not be. Null: nothing may.';
