create or replace function scheduler.lock_event(p_app text, p_id bigint, p_ttl interval default '1 minute') returns bigint
language sql volatile
-- By the keys: with statistics from when the tables were small, they are read from end to end.
set enable_seqscan = off
set enable_bitmapscan = off
as $$
    -- Locks an event for whoever asks first and returns the lock's fence, which only grows. Null: somebody has it, or it is
    -- not there (not yet published, expired, deleted). The lock's key decides: of any number who ask at one time, on any
    -- servers, one inserts the row or replaces the expired one, and the others wait for that and change nothing.
    insert into scheduler.event_lock as l (app, run_id, fence, locked_at, expires_at)
    select r.app, r.id, nextval('scheduler.lease_id'), scheduler.clock(), scheduler.clock() + p_ttl
    from scheduler.run r
    where r.app = p_app and r.id = p_id and r.executor = 'event' and r.run_at <= scheduler.clock()
        and r.run_at + scheduler.event_ttl(r.spec) > scheduler.clock()
    on conflict (app, run_id) do update set
        fence = excluded.fence, locked_at = excluded.locked_at, expires_at = excluded.expires_at
        where l.expires_at <= excluded.locked_at
    returning l.fence
$$;
comment on function scheduler.lock_event(text, bigint, interval) is 'Locks an event for a while; the lock''s fence, or null.';
