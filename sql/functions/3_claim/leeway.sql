create or replace function scheduler.leeway(p_app text, p_queue text) returns table (
    taken bigint, slots bigint, tokens bigint, wait interval
)
language sql stable as $$
    -- What a queue with limits may still have: the slots taken (what leases of it hold, prefetched or begun), how many are
    -- left (null: no limit), how many runs may start by the rate (null: no limit), and how long until one may. No row: the
    -- queue has no limits. Only who has locked the row of queue_limit may act on it.
    -- The rate is a bucket of rate_limit tokens that fills itself within rate_interval; full_at is when it will be full,
    -- and each run moves it by rate_interval / rate_limit. So in any time t no more than rate_limit * (1 + t /
    -- rate_interval) runs are claimed. A claim whose statement began earlier than the one before it finds fewer tokens.
    select h.taken, case when l.concurrency_limit is not null then greatest(l.concurrency_limit - h.taken, 0) end,
        case when l.rate_limit is not null then greatest(b.tokens, 0) end,
        case when b.tokens < 1 then make_interval(secs => b.missing - b.filled + b.filled / l.rate_limit) else '0' end
    from scheduler.queue_limit l
    cross join lateral (
        select coalesce(sum(h.size - cardinality(coalesce(h.done, '{}'))), 0) as taken from scheduler.lease h
        where h.app = l.app and h.queue = l.queue
    ) h
    left join lateral (
        select g.missing, g.filled, floor(l.rate_limit * (g.filled - g.missing) / g.filled)::bigint as tokens
        from (
            select extract(epoch from l.rate_interval) as filled,
                greatest(extract(epoch from case when isfinite(l.full_at) then l.full_at - scheduler.clock() end), 0) as missing
        ) g
    ) b on l.rate_limit is not null
    where l.app = p_app and l.queue = p_queue
$$;
comment on function scheduler.leeway(text, text) is 'What the limits of a queue leave, now. No row: it has none.';
