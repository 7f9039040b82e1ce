create or replace function scheduler.retire_server(p_server bigint) returns void
language sql as $$
    -- A server says good-bye.
    update scheduler.server s set stopped_at = scheduler.clock()
    where s.id = p_server and s.dead_at is null and s.stopped_at is null
$$;
comment on function scheduler.retire_server(bigint) is 'A server''s good-bye.';
