create or replace function scheduler.apps_allowed() returns text[]
language sql stable
security definer set search_path = pg_catalog, pg_temp
as $$
    -- The apps that whoever asks may reach; null: all of them. A restriction holds for its role and for all who inherit
    -- its rights, and counts for who logged in and for the role that was SET since, so that neither `set role` nor a
    -- setting leads out of it. Who is under several has the apps that are in all of them. Nothing holds the owner of the
    -- schema, nor a superuser.
    with held as materialized (
        select r.apps from scheduler.restriction r
        where exists (
            select from (values (session_user), (nullif(current_setting('role'), 'none')::name)) as who (name)
            where pg_has_role(who.name, r.role::oid, 'usage') and not pg_has_role(who.name, current_user, 'usage')
        )
    )
    select case
        when exists (select from held) then array(
            select a.app from held h cross join lateral unnest(h.apps) as a (app)
            group by a.app having count(*) = (select count(*) from held)
        )
    end
$$;
comment on function scheduler.apps_allowed() is 'The apps that the role in use may reach; null: all.';
