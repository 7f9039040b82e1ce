create or replace function scheduler.heartbeat_server(p_server bigint) returns timestamptz
language plpgsql as $$
begin
    -- Says that the server lives; returns the database's time. JS004: it was declared dead and must register again.
    update scheduler.server s set seen_at = scheduler.clock()
    where s.id = p_server and s.dead_at is null and s.stopped_at is null;
    if not found then
        raise exception 'server % is not registered, has stopped or was declared dead', p_server using errcode = 'JS004';
    end if;
    return scheduler.clock();
end
$$;
comment on function scheduler.heartbeat_server(bigint) is 'A server''s sign of life; returns the time.';
