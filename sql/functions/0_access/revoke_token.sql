create or replace function scheduler.revoke_token(p_name text) returns void
language plpgsql as $$
begin
    -- From its commit on token_of does not know the token any more; its row stays, and its name is free. JS002: there is
    -- no such token, or it was revoked before.
    update scheduler.token t set revoked_at = scheduler.clock() where t.name = p_name and t.revoked_at is null;
    if not found then
        raise exception 'there is no token "%"', p_name using errcode = 'JS002';
    end if;
end
$$;
comment on function scheduler.revoke_token(text) is 'Ends a token.';
