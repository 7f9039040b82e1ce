create or replace function scheduler.create_token(
    p_name text, p_hash bytea, p_prefix text, p_scopes text[], p_apps text[] default null,
    p_expires_at timestamptz default null
) returns void
language plpgsql as $$
declare
    v_now timestamptz := scheduler.clock();
begin
    -- Writes down a token that the caller made and shows once: its SHA-256 and first characters, never the token itself.
    -- p_apps null: for all apps. p_expires_at null: it does not expire. JS003: a token of this name is in use; one that
    -- expired leaves its name, and counts as revoked since.
    if p_expires_at <= v_now then
        raise exception 'the token would have expired already, at %', p_expires_at using errcode = 'JS001';
    end if;
    update scheduler.token t set revoked_at = t.expires_at
    where t.name = p_name and t.revoked_at is null and t.expires_at <= v_now;
    insert into scheduler.token (name, hash, prefix, scopes, apps, created_at, expires_at)
    values (p_name, p_hash, p_prefix, p_scopes, p_apps, v_now, p_expires_at)
    on conflict (name) where revoked_at is null do nothing;
    if not found then
        raise exception 'there is a token "%" already', p_name using
            errcode = 'JS003', hint = 'Take another name, or revoke that one first.';
    end if;
end
$$;
comment on function scheduler.create_token(text, bytea, text, text[], text[], timestamptz) is
    'Writes down a token by its hash: its name, scopes, apps and end.';
