create or replace function scheduler.audit_heads(p_app text default null)
returns table (app text, n bigint, hash bytea, last_n bigint, last_hash bytea)
language sql stable
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
    -- Of each chain, or one: where its head says that it ends (null: it has none), and its last entry (null: it has
    -- none). Read in one statement, in which both are the same unless somebody interfered.
    with recursive of_entries (app) as (
        (select a.app from scheduler.audit a where p_app is null order by a.app, a.n limit 1)
        union all
        select (select a.app from scheduler.audit a where a.app > o.app order by a.app, a.n limit 1)
        from of_entries o
        where o.app is not null
    ), chain (app) as (
        select o.app from of_entries o where o.app is not null
        union
        select h.app from scheduler.audit_head h where p_app is null
        union
        select p_app where p_app is not null
    )
    select c.app, h.n, h.hash, l.n, l.hash
    from chain c
    left join lateral (select * from scheduler.audit_head h where h.app = c.app offset 0) h on true
    left join lateral (
        select a.n, a.hash from scheduler.audit a where a.app = c.app order by a.app desc, a.n desc limit 1
    ) l on true
    where h.n is not null or l.n is not null
    order by c.app
$$;
comment on function scheduler.audit_heads(text) is 'Where the chains of the audit end, by their heads and by their entries.';
