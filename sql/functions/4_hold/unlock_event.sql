create or replace function scheduler.unlock_event(p_app text, p_id bigint) returns boolean
language sql volatile
-- By the keys: with statistics from when the tables were small, they are read from end to end.
set enable_seqscan = off
set enable_bitmapscan = off
as $$
    -- Gives a locked event back to all. True also when it was not locked. False: it is not there.
    with gone as (
        delete from scheduler.event_lock l where l.app = p_app and l.run_id = p_id
    )
    select exists (
        select from scheduler.run r
        where r.app = p_app and r.id = p_id and r.executor = 'event' and r.run_at <= scheduler.clock()
            and r.run_at + scheduler.event_ttl(r.spec) > scheduler.clock()
    )
$$;
comment on function scheduler.unlock_event(text, bigint) is 'Takes an event''s lock away. False: there is no such event.';
