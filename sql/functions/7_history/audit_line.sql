create or replace function scheduler.audit_line(
    p_app text, p_n bigint, p_at timestamptz, p_role text, p_actor text, p_action text, p_object text, p_before json,
    p_after json, p_previous bytea
) returns text
language sql stable parallel safe as $$
    -- An entry as the text that is hashed, and exported: a line of JSON, the same whatever the settings of the session.
    -- So whoever has the lines needs nothing of ours to check them: the SHA-256 of each is `previous` in the next.
    select '{"app": ' || to_json(p_app) || ', "n": ' || p_n
        || ', "at": "' || to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '", "role": ' || to_json(p_role) || ', "actor": ' || coalesce(to_json(p_actor)::text, 'null')
        || ', "action": ' || to_json(p_action) || ', "object": ' || to_json(p_object)
        || ', "before": ' || coalesce(p_before::text, 'null') || ', "after": ' || coalesce(p_after::text, 'null')
        || ', "previous": "' || encode(p_previous, 'hex') || '"}'
$$;
comment on function scheduler.audit_line(text, bigint, timestamptz, text, text, text, text, json, json, bytea) is
    'An entry of the audit as the line that is hashed and exported.';
