create or replace function scheduler.lost_leases(p_app text, p_leases bigint[]) returns table (lease bigint)
language sql stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
    -- Which of these leases are gone: ended, given back or reclaimed, never to come back, since ids only grow. What was
    -- begun under one that is gone, and is still found somewhere (a container), nobody waits for any more. Who asks has
    -- found it before, so a lease that is made meanwhile is not among them.
    -- Looked up one by one, and by the key: a table without statistics was read from end to end.
    select g.lease
    from unnest(p_leases) g (lease)
        left join lateral (
            select l.id from scheduler.lease l where l.app = p_app and l.id = g.lease offset 0
        ) held on true
    where held.id is null and g.lease <> all (array(
        select p.lease from scheduler.pulse p where p.app = p_app and p.lease is not null order by p.app, p.job
    ))
$$;
comment on function scheduler.lost_leases(text, bigint[]) is 'Which of these leases are gone.';
