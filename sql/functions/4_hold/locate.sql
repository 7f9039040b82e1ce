create or replace function scheduler.locate(
    app text, out server bigint, out epoch bigint, out address text, out label text, out host text
) returns setof record
language sql stable as $$
    -- The living server that owns the app, with the address it goes by (--advertise; null without) and the epoch of its
    -- ownership. No row: the app has no job, no server is alive, or the app is about to be given to one.
    select s.id, o.epoch, s.address, s.label, s.host
    from scheduler.owner o
    join scheduler.server s on s.id = o.server and s.dead_at is null and s.stopped_at is null
    where o.app = locate.app
$$;
comment on function scheduler.locate(text) is 'Which server owns an app, and where it is reached.';
