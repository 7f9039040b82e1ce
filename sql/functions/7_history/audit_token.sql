create or replace function scheduler.audit_token() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
    -- Never what a token could be recognised or guessed by, nor what every request moves.
    c_left_out constant text[] := '{name,hash,last_used_at,created_at}';
    v_old    jsonb := to_jsonb(old) - c_left_out;
    v_new    jsonb := to_jsonb(new) - c_left_out;
    v_before jsonb := v_old;
    v_after  jsonb := v_new;
    v_app    text;
begin
    -- In the chain of each app that the token is for, before or after; of one for all apps in that of no app, ''.
    if tg_op = 'UPDATE' then
        if v_old = v_new and old.hash = new.hash then
            return null;
        end if;
        select jsonb_object_agg(e.key, v_old -> e.key), jsonb_object_agg(e.key, e.value) into v_before, v_after
        from jsonb_each(v_new) e
        where e.value <> v_old -> e.key;
    end if;
    for v_app in
        select coalesce(a.app, '')
        from (values (v_old), (v_new)) v (token)
        cross join lateral jsonb_array_elements_text(coalesce(nullif(nullif(v.token -> 'apps', 'null'), '[]'), '[null]')) a (app)
        where v.token is not null
        group by 1
        order by 1
    loop
        perform scheduler.record(
            v_app,
            case
                when tg_op = 'INSERT' then 'create'
                when tg_op = 'DELETE' then 'remove'
                when v_before -> 'revoked_at' = 'null' then 'revoke'
                else 'edit'
            end,
            'token ' || coalesce(new.name, old.name), v_before::json, v_after::json
        );
    end loop;
    return null;
end
$$;
comment on function scheduler.audit_token() is 'Trigger: notes for the audit what was changed of tokens.';
