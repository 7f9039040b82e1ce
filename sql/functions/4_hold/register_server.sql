create or replace function scheduler.register_server(
    p_label text, p_host text default '', p_pid integer default 0, p_address text default null, p_version text default ''
) returns bigint
language sql as $$
    -- A new identity for a server that starts, or that was declared dead and starts afresh.
    insert into scheduler.server (label, host, pid, address, version, started_at, seen_at)
    values (p_label, p_host, p_pid, p_address, p_version, scheduler.clock(), scheduler.clock())
    returning id
$$;
comment on function scheduler.register_server(text, text, integer, text, text) is 'Registers a server process; returns its id.';
