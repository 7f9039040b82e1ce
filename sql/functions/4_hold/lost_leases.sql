create or replace function scheduler.lost_leases(p_app text, p_leases bigint[]) returns table (lease bigint)
language plpgsql stable
security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
begin
    -- Which of these leases are gone: ended, given back or reclaimed, never to come back, since ids only grow. What was
    -- begun under one that is gone, and is still found somewhere (a container), nobody waits for any more. Who asks has
    -- found it before, so a lease that is made meanwhile is not among them.
    -- With the owner's rights: to a role that may not see an app's leases all of them would be gone.
    if session_user <> current_user or current_setting('role') <> 'none' then
        perform scheduler.admit(p_app);
    end if;
    -- Looked up one by one, and by the key: a table without statistics was read from end to end.
    return query
    select g.lease
    from unnest(p_leases) g (lease)
        left join lateral (
            select l.id from scheduler.lease l where l.app = p_app and l.id = g.lease offset 0
        ) held on true
    where held.id is null and g.lease <> all (array(
        select p.lease from scheduler.pulse p where p.app = p_app and p.lease is not null order by p.app, p.job
    ));
end
$$;
comment on function scheduler.lost_leases(text, bigint[]) is 'Which of these leases are gone.';
