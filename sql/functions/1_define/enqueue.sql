drop function if exists scheduler.enqueue(
    text, text, jsonb, text, timestamptz, smallint, text, smallint, interval, text[], interval, interval
);
drop function if exists scheduler.enqueue(
    text, text, jsonb, text, timestamptz, integer, text, integer, interval, text[], interval, interval
);
drop function if exists scheduler.enqueue(
    text, text, jsonb, text, timestamptz, integer, text, integer, interval, text[], interval, interval, text, integer
);
-- Integers, although the columns are smallint: of a call with priority => 5 PostgreSQL finds no function that takes less.
create or replace function scheduler.enqueue(
    app text, executor text, spec jsonb default '{}',
    queue text default 'default', run_at timestamptz default null, priority integer default 0,
    unique_key text default null, max_attempts integer default 3, timeout interval default null,
    tags text[] default null, retry_delay interval default null, retry_max_delay interval default null,
    concurrency_key text default null, concurrency_limit integer default null, traceparent text default null
) returns bigint
language plpgsql as $$
<<fn>>
declare
    v_id bigint;
begin
    -- Writes a pending run in the caller's transaction and returns its id. With a unique_key that a pending or running
    -- run of the app already has, nothing is written and that run's id is returned. Never updates anything.
    -- A traceparent (W3C) goes along to each attempt; one that is malformed is stored, and nobody follows it.
    if enqueue.unique_key is not null then
        loop
            v_id := nextval('scheduler.run_id');
            insert into scheduler.run_key as k (app, unique_key, run_id)
            values (enqueue.app, enqueue.unique_key, fn.v_id)
            on conflict on constraint run_key_pkey do nothing;
            exit when found;
            -- The other run may end between the two statements; then there is no row to read and the key is free.
            select k.run_id into v_id from scheduler.run_key k
            where k.app = enqueue.app and k.unique_key = enqueue.unique_key;
            if found then
                return v_id;
            end if;
        end loop;
    end if;
    insert into scheduler.run as r (
        app, queue, id, executor, spec, run_at, priority, max_attempts, timeout, unique_key, tags,
        retry_delay, retry_max_delay, concurrency_key, concurrency_limit, traceparent
    ) values (
        enqueue.app, enqueue.queue, coalesce(fn.v_id, nextval('scheduler.run_id')), enqueue.executor, enqueue.spec,
        coalesce(enqueue.run_at, scheduler.clock()), enqueue.priority, enqueue.max_attempts, enqueue.timeout,
        enqueue.unique_key, enqueue.tags, enqueue.retry_delay, enqueue.retry_max_delay, enqueue.concurrency_key,
        enqueue.concurrency_limit, enqueue.traceparent
    ) returning r.id into v_id;
    return v_id;
end
$$;
comment on function scheduler.enqueue(
    text, text, jsonb, text, timestamptz, integer, text, integer, interval, text[], interval, interval, text, integer, text
) is 'Adds a pending run, or returns the one that has the unique key; app, executor, spec and options.';
