create or replace function scheduler.retire_server(p_server bigint) returns void
language plpgsql as $$
begin
    -- A server says good-bye. What it owned has other owners by the time this returns, if there are any and nobody else
    -- was just at it; then they see to it, having heard of it or with their next look.
    update scheduler.server s set stopped_at = scheduler.clock()
    where s.id = p_server and s.dead_at is null and s.stopped_at is null;
    if found then
        perform scheduler.assign_apps(p_search => false);
        perform pg_notify('scheduler_job', 'left');
    end if;
end
$$;
comment on function scheduler.retire_server(bigint) is 'A server''s good-bye: its apps go to others.';
