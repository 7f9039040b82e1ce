create or replace function scheduler.retire_worker(p_worker bigint) returns void
language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
begin
    -- A worker says good-bye after it finished or released what it held. What it holds nevertheless is reclaimed.
    if session_user <> current_user or current_setting('role') <> 'none' then
        perform scheduler.admit_worker(p_worker);
    end if;
    update scheduler.worker w set stopped_at = scheduler.clock()
    where w.id = p_worker and w.dead_at is null and w.stopped_at is null;
end
$$;
comment on function scheduler.retire_worker(bigint) is 'A worker''s good-bye.';
