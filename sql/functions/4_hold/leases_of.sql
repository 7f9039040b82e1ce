create or replace function scheduler.leases_of(p_worker bigint) returns table (app text, lease bigint)
language sql stable as $$
    -- The leases a worker holds. A worker that lost the answer to a claim does not know of that lease, and as long as it
    -- lives nobody takes it back: so it looks here now and then, and releases what it never heard of.
    select l.app, l.id from scheduler.lease l where l.worker = p_worker
$$;
comment on function scheduler.leases_of(bigint) is 'The leases a worker holds, for its own comparison.';
