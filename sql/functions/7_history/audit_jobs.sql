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
    v_salt text := gen_random_uuid()::text;
begin
    -- Per statement, so that a COPY of 100,000 definitions is noted by one insert. Of a new or removed job the whole
    -- definition, of an edit only what changed. Secrets that stand in a spec are masked before anything is written.
    if tg_op = 'INSERT' then
        insert into scheduler.audit_pending (seals, app, action, object, after)
        select row_number() over () = 1, n.app, 'add', 'job ' || n.name, scheduler.definition(n, v_salt)
        from new_rows n;
    elsif tg_op = 'DELETE' then
        insert into scheduler.audit_pending (seals, app, action, object, before)
        select row_number() over () = 1, o.app, 'remove', 'job ' || o.name, scheduler.definition(o, v_salt)
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
            'job ' || d.name, d.before::json, d.after::json
        from (
            select r.app, r.name, c.before, c.after
            from (
                -- Fenced: folded into the comparison, both definitions were made anew for each of their columns.
                select n.app, n.name, to_jsonb(scheduler.definition(o, v_salt)) as old,
                    to_jsonb(scheduler.definition(n, v_salt)) as new
                from new_rows n join old_rows o on o.app = n.app and o.name = n.name
                offset 0
            ) r
            cross join lateral (
                select jsonb_object_agg(e.key, r.old -> e.key) as before, jsonb_object_agg(e.key, e.value) as after
                from jsonb_each(r.new) e
                where e.value <> r.old -> e.key
            ) c
            where c.after is not null
        ) d;
    end if;
    return null;
end
$$;
comment on function scheduler.audit_jobs() is 'Trigger: notes for the audit what was changed of definitions.';
