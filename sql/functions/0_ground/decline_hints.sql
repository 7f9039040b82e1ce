create or replace function scheduler.decline_hints() returns void
language sql volatile as $$
    -- Takes back what await_hints asked for: this session looks by itself, often, as a busy worker does. It lets go of
    -- all advisory locks of the session.
    select pg_advisory_unlock_all()
$$;
comment on function scheduler.decline_hints() is 'No more hints for this session.';
