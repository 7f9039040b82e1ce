create or replace function scheduler.seal() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_salt  text := gen_random_uuid()::text;
    v_head  scheduler.audit_head%rowtype;
    v_entry record;
begin
    -- At the commit: all that the transaction changed goes to the end of its apps' chains. The heads are locked here, after
    -- every other lock, and in the order of their names. Locked when the change was made, they would be held for as long
    -- as the transaction stays open, and two that edit jobs in different orders would deadlock: one has the chain and
    -- waits for the job, the other has the job and waits for the chain.
    -- Called for one row of each statement; the first call takes them all. Under `set constraints all immediate` each
    -- takes those of its statement: they have later ids than what was taken before.
    perform from scheduler.audit_pending p where p.xact = new.xact and p.id = new.id;
    if not found then
        return null;
    end if;
    for v_entry in
        with taken as (
            delete from scheduler.audit_pending p where p.xact = new.xact and p.id >= new.id returning p.*
        )
        select t.app, t.role, t.actor, t.action, t.object, scheduler.masked(t.before, v_salt) as before,
            scheduler.masked(t.after, v_salt) as after
        from taken t
        order by t.app, t.id
    loop
        if v_head.app is distinct from v_entry.app then
            update scheduler.audit_head h set n = v_head.n, at = v_head.at, hash = v_head.hash where h.app = v_head.app;
            select * into v_head from scheduler.audit_head h where h.app = v_entry.app for update;
            if not found then
                insert into scheduler.audit_head (app, n, at, hash)
                values (v_entry.app, 0, '-infinity', decode(repeat('00', 32), 'hex'))
                on conflict on constraint audit_head_pkey do nothing;
                select * into strict v_head from scheduler.audit_head h where h.app = v_entry.app for update;
            end if;
            -- Not scheduler.clock(), which any session may set for itself.
            v_head.at := greatest(v_head.at, clock_timestamp());
        end if;
        v_head.n := v_head.n + 1;
        insert into scheduler.audit (app, n, at, role, actor, action, object, before, after, previous, hash)
        select v_head.app, v_head.n, v_head.at, v_entry.role, v_entry.actor, v_entry.action, v_entry.object,
            v_entry.before, v_entry.after, v_head.hash,
            sha256(convert_to(scheduler.audit_line(
                v_head.app, v_head.n, v_head.at, v_entry.role, v_entry.actor, v_entry.action, v_entry.object,
                v_entry.before, v_entry.after, v_head.hash
            ), 'UTF8'))
        returning hash into v_head.hash;
    end loop;
    update scheduler.audit_head h set n = v_head.n, at = v_head.at, hash = v_head.hash where h.app = v_head.app;
    return null;
end
$$;
comment on function scheduler.seal() is 'Trigger: at the commit, what was changed goes to the end of the chains.';
