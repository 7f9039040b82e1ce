create or replace function scheduler.await_hints(p_apps text[] default null, p_queues text[] default null) returns void
language plpgsql as $$
begin
    -- From now on runs inserted for these apps and queues (null: all) send a hint, until decline_hints or the end of
    -- this session. Call it on a session of your own, then look once more for what came before, and only then sleep.
    -- The wish is a set of shared advisory locks: seen at once, without a commit, gone with a crashed session, and they
    -- leave no dead row behind when an old snapshot is held open. An insert looks at its app's bucket, then at the app,
    -- then at the queue, and no further than it must. Repeating it replaces the former wish.
    perform pg_advisory_unlock_all();
    perform pg_advisory_lock_shared(7716801, k.key)
    from (
        select b.bucket as key from generate_series(0, 31) b (bucket) where p_apps is null
        union
        select scheduler.hint_bucket(a.app) from unnest(p_apps) a (app)
        union
        select scheduler.hint_key(a.app) from unnest(coalesce(p_apps, '{""}')) a (app)
        union
        select scheduler.hint_key(a.app, q.queue)
        from unnest(coalesce(p_apps, '{""}')) a (app)
        cross join unnest(coalesce(p_queues, '{""}')) q (queue)
    ) k;
end
$$;
comment on function scheduler.await_hints(text[], text[]) is 'Asks for hints about new runs; held by the session.';
