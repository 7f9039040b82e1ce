create or replace function scheduler.restrict_role(p_role text, p_apps text[]) returns void
language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_role oid;
    v_free boolean;
begin
    -- From now on the role, and who inherits its rights, sees and touches rows of these apps only; null: of all again. It
    -- gives no rights: what the role may do there is what it was granted. The first restriction in a database switches
    -- row-level security on (see isolate_apps). Refused for a role that it would not hold, and to who is restricted.
    if scheduler.apps_allowed() is not null then
        raise insufficient_privilege using message = 'a role that is restricted to some apps cannot restrict others';
    end if;
    select r.oid, r.rolsuper or r.rolbypassrls or pg_has_role(r.oid, current_user, 'usage') into v_role, v_free
    from pg_roles r where r.rolname = p_role;
    if not found then
        raise exception 'there is no role "%"', p_role using errcode = 'JS002';
    end if;
    if p_apps is null then
        delete from scheduler.restriction r where r.role = v_role;
        return;
    end if;
    if v_free then
        raise exception 'role "%" would not be held by a restriction', p_role using
            errcode = 'JS001', hint = 'It is a superuser, has BYPASSRLS, or has the rights of the owner of the schema.';
    end if;
    perform scheduler.isolate_apps();
    insert into scheduler.restriction as r (role, apps)
    values (v_role, array(select distinct a.app from unnest(p_apps) as a (app) where a.app is not null))
    on conflict on constraint restriction_pkey do update set apps = excluded.apps;
end
$$;
comment on function scheduler.restrict_role(text, text[]) is 'Restricts a role of the database to some apps; null: to none.';
