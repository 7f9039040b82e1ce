create or replace function scheduler.audit_owner() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
set jit = off
as $$
declare
    v_stack text;
begin
    -- Notes who owns an app when a person says so. What assign_apps gives away and weigh_apps forgets is nobody's decision.
    -- Who called is on PostgreSQL's own stack, which no setting of a session can fake: the last line is the outermost
    -- function. Not more of it is compared than the name, as the words around it are in the server's language; and no
    -- line with a quote in it, as a name with such a text in it would have.
    get diagnostics v_stack = pg_context;
    if v_stack ~ '\n([^\n"]*[^\n"a-z0-9_.])?scheduler\.(assign_apps|weigh_apps|retire_server)\([a-z,\[\]]*\)[^\n"]*$' then
        return null;
    end if;
    if tg_op = 'UPDATE' then
        insert into scheduler.audit_pending (seals, app, action, object, before, after)
        select row_number() over () = 1, n.app, 'assign', 'app',
            json_build_object('server', o.server, 'epoch', o.epoch),
            json_build_object('server', n.server, 'epoch', n.epoch)
        from new_rows n join old_rows o on o.app = n.app
        where (o.server, o.epoch) is distinct from (n.server, n.epoch);
    else
        perform scheduler.record(
            coalesce(new.app, old.app), 'assign', 'app',
            case when tg_op = 'DELETE' then json_build_object('server', old.server, 'epoch', old.epoch) end,
            case when tg_op = 'INSERT' then json_build_object('server', new.server, 'epoch', new.epoch) end
        );
    end if;
    return null;
end
$$;
comment on function scheduler.audit_owner() is 'Trigger: notes for the audit that a person gave an app to a server.';
