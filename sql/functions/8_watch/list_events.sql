create or replace function scheduler.list_events(
    p_app text, p_limit integer default 10000, p_bytes integer default 16777216,
    p_after_at timestamptz default '-infinity', p_after_id bigint default 0
) returns table (
    id bigint, published_at timestamptz, data text, lives_until timestamptz, is_locked boolean, has_more boolean
)
language sql stable
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
    -- The events of a channel (an app) behind a place, in the order of their publication: those that are published and have
    -- not expired, locked or not. At most p_limit, and no more once their data have p_bytes together: has_more then tells,
    -- in the last row, that there may be others. Locks nothing. By the index of claims, lane by lane: of an app they are
    -- few, and those of its events mostly one.
    with recursive lane as (
        (
            select r.queue, r.priority, r.executor from scheduler.run r
            where r.app = p_app and r.concurrency_key is null
            order by r.queue, r.priority, r.executor limit 1
        )
        union all
        select n.queue, n.priority, n.executor
        from lane l
        cross join lateral (
            select r.queue, r.priority, r.executor from scheduler.run r
            where r.app = p_app and r.concurrency_key is null
                and (r.queue, r.priority, r.executor) > (l.queue, l.priority, l.executor)
            order by r.queue, r.priority, r.executor limit 1
        ) n
    ), event as (
        select e.*
        from lane l
        cross join lateral (
            select r.id, r.run_at, coalesce(r.spec ->> 'data', '') as data, scheduler.event_ttl(r.spec) as ttl
            from scheduler.run r
            where r.app = p_app and r.queue = l.queue and r.priority = l.priority and r.executor = 'event'
                and r.concurrency_key is null and r.run_at <= scheduler.clock()
                and (r.run_at, r.id) > (p_after_at, p_after_id)
                and r.run_at + scheduler.event_ttl(r.spec) > scheduler.clock()
            order by r.run_at, r.id
            limit p_limit
        ) e
        where l.executor = 'event'
        order by e.run_at, e.id
        limit p_limit
    )
    select e.id, e.run_at, e.data, e.run_at + e.ttl, coalesce(l.expires_at > scheduler.clock(), false),
        e.nr = p_limit or e.bytes >= p_bytes
    from (
        select s.*, row_number() over w as nr, sum(octet_length(s.data)) over w as bytes
        from event s
        window w as (order by s.run_at, s.id rows unbounded preceding)
    ) e
    left join lateral (
        select l.expires_at from scheduler.event_lock l where l.app = p_app and l.run_id = e.id offset 0
    ) l on true
    where e.bytes - octet_length(e.data) < p_bytes
    order by e.run_at, e.id
$$;
comment on function scheduler.list_events(text, integer, integer, timestamptz, bigint) is 'The events of a channel.';
