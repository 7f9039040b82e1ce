create or replace function scheduler.first_token(p_hash bytea, p_prefix text) returns boolean
language plpgsql as $$
begin
    -- Writes down the first token of this database, "admin" with scope admin, unless there ever was one. Of servers that
    -- start together one gets true, and shows the token. Revoked tokens stay in the table, so that to revoke them all
    -- never brings a new one into a server's log.
    if exists (select from scheduler.token t) then
        return false;
    end if;
    perform pg_advisory_xact_lock(7716805);
    if exists (select from scheduler.token t) then
        return false;
    end if;
    perform scheduler.create_token('admin', p_hash, p_prefix, '{admin}');
    return true;
end
$$;
comment on function scheduler.first_token(bytea, text) is 'Writes down an admin token where there never was any. False: there was.';
