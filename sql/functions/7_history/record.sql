create or replace function scheduler.record(p_app text, p_action text, p_object text, p_before json, p_after json)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Notes a change for the audit; it is there when the transaction commits, and never was when it does not. The caller's
    -- login is noted with it, so whoever calls it by hand can only add to what he himself did, in the apps he reaches.
    if session_user <> current_user or current_setting('role') <> 'none' then
        perform scheduler.admit(p_app);
    end if;
    insert into scheduler.audit_pending (seals, app, action, object, before, after)
    values (true, p_app, p_action, p_object, p_before, p_after);
end
$$;
comment on function scheduler.record(text, text, text, json, json) is 'Notes a change for the audit.';
