create or replace function scheduler.audit_jobs() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set intervalstyle = 'postgres'
-- The plan is kept, and the first edit may be of one job and the next of 100,000.
set enable_nestloop = off
set jit = off
as $$
declare
    -- The name is in the entry already, and what every edit moves tells nothing.
    c_left_out constant text[] := '{app,name,created_at,updated_at}';
begin
    -- Per statement, so that a COPY of 100,000 definitions is noted by one insert. Of a new or removed job the whole
    -- definition, but for what is null; of an edit only what changed.
    if tg_op = 'INSERT' then
        insert into scheduler.audit_pending (seals, app, action, object, after)
        select row_number() over () = 1, n.app, 'add', 'job ' || n.name,
            jsonb_strip_nulls(to_jsonb(n) - c_left_out - 'spec') || jsonb_build_object('spec', n.spec)
        from new_rows n;
    elsif tg_op = 'DELETE' then
        insert into scheduler.audit_pending (seals, app, action, object, before)
        select row_number() over () = 1, o.app, 'remove', 'job ' || o.name,
            jsonb_strip_nulls(to_jsonb(o) - c_left_out - 'spec') || jsonb_build_object('spec', o.spec)
        from old_rows o;
    else
        insert into scheduler.audit_pending (seals, app, action, object, before, after)
        select row_number() over () = 1, d.app,
            case
                when d.after - 'paused_at' <> '{}' then 'edit'
                when d.after -> 'paused_at' = 'null' then 'resume'
                when d.before -> 'paused_at' = 'null' then 'pause'
                else 'edit'
            end,
            'job ' || d.name, d.before, d.after
        from (
            select r.app, r.name, scheduler.difference(r.new, r.old) as before, scheduler.difference(r.old, r.new) as after
            from (
                select n.app, n.name, to_jsonb(o) - c_left_out as old, to_jsonb(n) - c_left_out as new
                from new_rows n join old_rows o on o.app = n.app and o.name = n.name
            ) r
            where r.old <> r.new
        ) d;
    end if;
    return null;
end
$$;
comment on function scheduler.audit_jobs() is 'Trigger: notes for the audit what was changed of definitions.';
