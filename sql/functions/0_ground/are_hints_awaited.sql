create or replace function scheduler.are_hints_awaited(p_key integer) returns boolean
language sql volatile as $$
    -- Whether a session, other than this one, awaits hints under this key. Looks, and leaves nothing behind: the lock is
    -- let go in the same expression, so it never lasts until the commit, and works behind PgBouncer. Two that look at
    -- the same instant may see each other (2 % of looks from 64 clients): who acts on it looks once more.
    -- 0.3 us within a transaction, 2.5 for its first, most of it to set the expression up: as short as it can be.
    select case
        when pg_try_advisory_lock(7716801, p_key) then not pg_advisory_unlock(7716801, p_key)
        else true
    end
$$;
comment on function scheduler.are_hints_awaited(integer) is 'Whether anybody awaits hints under a key.';
