create or replace function scheduler.register_worker(
    p_label text, p_host text default '', p_pid integer default 0, p_apps text[] default null,
    p_queues text[] default null, p_executors text[] default '{python,http}', p_concurrency integer default 1,
    p_version text default ''
) returns bigint
language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint;
begin
    -- A new identity for a worker that starts, or that was declared dead and starts afresh. Never reused, so that a
    -- process which comes back under its old name cannot make the dead one's work look alive.
    if session_user <> current_user or current_setting('role') <> 'none' then
        perform scheduler.admit(a.app) from unnest(p_apps) as a (app);
        p_apps := coalesce(p_apps, scheduler.apps_allowed());
    end if;
    insert into scheduler.worker (
        label, host, pid, apps, queues, executors, concurrency, version, started_at, seen_at
    ) values (
        p_label, p_host, p_pid, p_apps, p_queues, p_executors, p_concurrency, p_version, scheduler.clock(), scheduler.clock()
    ) returning id into v_id;
    return v_id;
end
$$;
comment on function scheduler.register_worker(text, text, integer, text[], text[], text[], integer, text) is
    'Registers a worker process; returns its id.';
