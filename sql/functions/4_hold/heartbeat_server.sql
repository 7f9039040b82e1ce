drop function if exists scheduler.heartbeat_server(bigint);
create or replace function scheduler.heartbeat_server(p_server bigint, p_clock_ahead double precision default null)
returns timestamptz
language plpgsql as $$
begin
    -- Says that the server lives, and p_clock_ahead, by how many seconds its machine's clock is ahead of the database's,
    -- for people to see; returns the database's time. JS004: it was declared dead and must register again.
    update scheduler.server s set seen_at = scheduler.clock(), clock_ahead = coalesce(p_clock_ahead, s.clock_ahead)
    where s.id = p_server and s.dead_at is null and s.stopped_at is null;
    if not found then
        raise exception 'server % is not registered, has stopped or was declared dead', p_server using errcode = 'JS004';
    end if;
    return scheduler.clock();
end
$$;
comment on function scheduler.heartbeat_server(bigint, double precision) is 'A server''s sign of life; returns the time.';
