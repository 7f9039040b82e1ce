create or replace function scheduler.apps_allowed() returns text[]
language plpgsql stable
security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_held text[];
    v_apps text[];
begin
    -- The apps that whoever asks may reach; null: all of them. A restriction holds for its role and for all who inherit
    -- its rights, and counts for who logged in and for the role that was SET since, so that neither `set role` nor a
    -- setting leads out of it. Who is under several has the apps that are in all of them. Nothing holds the owner of the
    -- schema, whose rights this function runs with, nor a superuser.
    -- In PL/pgSQL, which keeps its plan: as an SQL function it took 100 us of each statement that asked.
    for v_held in
        select r.apps from scheduler.restriction r
        where (pg_has_role(session_user, r.role::oid, 'usage') and not pg_has_role(session_user, current_user, 'usage'))
            or (
                pg_has_role(nullif(current_setting('role'), 'none')::name, r.role::oid, 'usage')
                and not pg_has_role(nullif(current_setting('role'), 'none')::name, current_user, 'usage')
            )
    loop
        v_apps := case
            when v_apps is null then v_held
            else array(select a.app from unnest(v_apps) as a (app) where a.app = any (v_held))
        end;
    end loop;
    return v_apps;
end
$$;
comment on function scheduler.apps_allowed() is 'The apps that the role in use may reach; null: all.';
