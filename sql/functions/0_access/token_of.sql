create or replace function scheduler.token_of(p_hash bytea) returns table (name text, scopes text[], apps text[])
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
as $$
begin
    -- What the token with this SHA-256 may do, and in which apps (null: all). No row: it is unknown, expired or revoked.
    -- Found by its hash, so the time it takes says nothing about the token.
    return query
    select t.name, t.scopes, t.apps from scheduler.token t
    where t.hash = p_hash and t.revoked_at is null and (t.expires_at is null or t.expires_at > scheduler.clock());
end
$$;
comment on function scheduler.token_of(bytea) is 'What a token may do. No row: it is unknown, expired or revoked.';
