create or replace function scheduler.locate(
    app text, out server bigint, out epoch bigint, out address text, out label text, out host text
) returns setof record
language sql stable as $$
    -- The living server that owns the app, with the address it goes by (--advertise; null without) and the epoch of its
    -- ownership. No row: the app has no job, no server is alive, or the app is about to be given to one.
    -- The offsets keep it two look-ups by key, also where it is asked for each app of a list.
    select s.id, o.epoch, s.address, s.label, s.host
    from (select * from scheduler.owner o where o.app = locate.app offset 0) o
    cross join lateral (
        select * from scheduler.server s where s.id = o.server and s.dead_at is null and s.stopped_at is null offset 0
    ) s
$$;
comment on function scheduler.locate(text) is 'Which server owns an app, and where it is reached.';
