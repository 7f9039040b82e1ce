create or replace function scheduler.publish_event(
    p_app text, p_data text, p_ttl text default null, p_publish_at timestamptz default null,
    out id bigint, out published_at timestamptz, out lives_until timestamptz
)
language sql volatile as $$
    -- Writes an event of a channel (an app): a run that waits for a client. It is to be seen from its instant on (null:
    -- now) until its time to live is over. The same as a plain insert with the executor `event`.
    insert into scheduler.run as r (app, executor, spec, run_at)
    values (
        p_app, 'event', jsonb_strip_nulls(jsonb_build_object('data', p_data, 'ttl', p_ttl)),
        coalesce(p_publish_at, scheduler.clock())
    )
    returning r.id, r.run_at, r.run_at + scheduler.event_ttl(r.spec)
$$;
comment on function scheduler.publish_event(text, text, text, timestamptz) is 'Publishes an event in a channel, now or later.';
