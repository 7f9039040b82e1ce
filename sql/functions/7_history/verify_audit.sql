create or replace function scheduler.verify_audit(
    p_app text, p_first bigint default 1, p_last bigint default null, p_kept bytea default null
) returns table (n bigint, last_n bigint, finding text, was bigint)
language sql stable
-- It goes along the key, whatever the statistics say.
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
    -- Computes the hashes of an app's entries from p_first to p_last (null: to the head) anew. No row: nothing is wrong.
    -- edited: its content is not what was hashed. reordered: it is another entry, was, moved here (seen within the range).
    -- rewritten: content and hash agree, but the entry after it was written behind another hash. deleted: n to last_n are
    -- not there. kept is no finding: it says that entry n has the hash p_kept.
    with looked as materialized (
        select e.n, e.before_n, e.before_n = e.n - 1 as follows, e.holds, e.is_linked, e.is_kept
        from (
            select a.n, lag(a.n) over w as before_n, a.hash = p_kept as is_kept,
                a.previous = case when a.n = 1 then decode(repeat('00', 32), 'hex') else lag(a.hash) over w end as is_linked,
                a.n < p_first or a.hash = sha256(convert_to(scheduler.audit_line(
                    a.app, a.n, a.at, a.role, a.actor, a.action, a.object, a.before, a.after, a.previous
                ), 'UTF8')) as holds
            from scheduler.audit a
            where a.app = p_app and a.n >= p_first - 1
                and a.n <= coalesce(p_last, (select h.n from scheduler.audit_head h where h.app = p_app))
            window w as (order by a.n)
        ) e
        where e.n >= p_first and (
            not e.holds or not e.is_linked or e.is_kept or coalesce(e.before_n, p_first - 1) < e.n - 1
        )
    ), wrong as materialized (
        select l.n from looked l where not l.holds
    )
    select coalesce(l.before_n, p_first - 1) + 1, l.n - 1, 'deleted', null::bigint
    from looked l
    where coalesce(l.before_n, p_first - 1) < l.n - 1
    union all
    select t.n + 1, t.last_n, 'deleted', null
    from (
        select coalesce((
            select a.n from scheduler.audit a
            where a.app = p_app and a.n >= p_first and a.n <= w.last_n
            order by a.app desc, a.n desc limit 1
        ), p_first - 1) as n, w.last_n
        from (select coalesce(p_last, (select h.n from scheduler.audit_head h where h.app = p_app)) as last_n) w
    ) t
    where t.n < t.last_n
    union all
    select w.n, w.n, case when m.n is null then 'edited' else 'reordered' end, m.n
    from wrong w
    left join lateral (
        -- Whose place it was: the one under whose number it has the hash it has. Of many it is not asked: each is tried
        -- with each.
        select o.n
        from wrong o
        cross join scheduler.audit a
        where (select count(*) from wrong) <= 50 and a.app = p_app and a.n = w.n and a.hash = sha256(convert_to(
            scheduler.audit_line(
                a.app, o.n, a.at, a.role, a.actor, a.action, a.object, a.before, a.after, a.previous
            ), 'UTF8'))
        limit 1
    ) m on true
    union all
    select l.n - 1, l.n - 1, 'rewritten', null
    from looked l
    where l.holds and not l.is_linked and l.follows and l.n - 1 not in (select w.n from wrong w)
    union all
    select l.n, l.n, 'kept', null from looked l where l.is_kept
    order by 1, 3
$$;
comment on function scheduler.verify_audit(text, bigint, bigint, bytea) is
    'What is wrong with the entries of an app''s audit; no row: nothing.';
