create or replace function scheduler.seal() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
-- audit_pending is nearly always empty, and is scanned by a plan from then.
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_app     text;
    v_n       bigint;
    v_at      timestamptz;
    v_hash    bytea;
    v_change  record;
    v_entry   scheduler.audit%rowtype;
    v_entries scheduler.audit[] := '{}';
    v_line    text;
    v_size    bigint := 0;
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
    for v_change in
        with taken as (
            delete from scheduler.audit_pending p where p.xact = new.xact and p.id >= new.id returning p.*
        )
        select * from taken t order by t.app, t.id
    loop
        if v_app is distinct from v_change.app then
            if v_app is not null then
                update scheduler.audit_head h set n = v_n, at = v_at, hash = v_hash where h.app = v_app;
            end if;
            v_app := v_change.app;
            select h.n, h.at, h.hash into v_n, v_at, v_hash from scheduler.audit_head h where h.app = v_app for update;
            if not found then
                insert into scheduler.audit_head (app, n, at, hash)
                values (v_app, 0, '-infinity', decode(repeat('00', 32), 'hex'))
                on conflict on constraint audit_head_pkey do nothing;
                select h.n, h.at, h.hash into strict v_n, v_at, v_hash
                from scheduler.audit_head h where h.app = v_app for update;
            end if;
            -- Not scheduler.clock(), which any session may set for itself.
            v_at := greatest(v_at, clock_timestamp());
        end if;
        v_n := v_n + 1;
        v_line := scheduler.audit_line(
            v_app, v_n, v_at, v_change.role, v_change.actor, v_change.action, v_change.object,
            v_change.before, v_change.after, v_hash
        );
        v_entry := (
            v_app, v_n, v_at, v_change.role, v_change.actor, v_change.action, v_change.object,
            v_change.before, v_change.after, v_hash, sha256(convert_to(v_line, 'UTF8'))
        );
        v_hash := v_entry.hash;
        -- Written a megabyte at a time: an insert for each costs 40 us where this costs 17.
        v_entries := v_entries || v_entry;
        v_size := v_size + length(v_line);
        if v_size > 1000000 then
            insert into scheduler.audit select * from unnest(v_entries);
            v_entries := '{}';
            v_size := 0;
        end if;
    end loop;
    insert into scheduler.audit select * from unnest(v_entries);
    update scheduler.audit_head h set n = v_n, at = v_at, hash = v_hash where h.app = v_app;
    return null;
end
$$;
comment on function scheduler.seal() is 'Trigger: at the commit, what was changed goes to the end of the chains.';
