create or replace function scheduler.audit_limit() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set intervalstyle = 'postgres'
as $$
declare
    c_left_out constant text[] := '{app,queue,full_at}';
    v_old jsonb := to_jsonb(old) - c_left_out;
    v_new jsonb := to_jsonb(new) - c_left_out;
begin
    -- Claims write full_at only, which sets off nothing. A limit that is moved to another queue leaves the first without.
    if (old.app, old.queue) is distinct from (new.app, new.queue) then
        if v_old is not null then
            perform scheduler.record(old.app, 'limit', 'queue ' || old.queue, v_old::json, null);
        end if;
        if v_new is not null then
            perform scheduler.record(new.app, 'limit', 'queue ' || new.queue, null, v_new::json);
        end if;
    elsif v_old <> v_new then
        perform scheduler.record(new.app, 'limit', 'queue ' || new.queue, v_old::json, v_new::json);
    end if;
    return null;
end
$$;
comment on function scheduler.audit_limit() is 'Trigger: notes for the audit that the limits of a queue were set.';
