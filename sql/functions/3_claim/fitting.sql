create or replace function scheduler.fitting(p_rows tid[], p_room bigint, p_first boolean)
returns table (rows tid[], bytes bigint)
language sql stable as $$
    -- Of locked rows of run, in their order, those whose specs fit into p_room bytes together; with p_first the first one
    -- in any case. What was locked and is not taken is free again when the claim's transaction ends.
    -- A compressed spec counts as what the worker will get (the concatenation hands it over unpacked): by their stored
    -- size 500 specs of 900 kB made a lease of 450 MB. Only those that may fit are unpacked to be measured.
    select coalesce(array_agg(s.place order by s.nr), '{}'), coalesce(sum(s.bytes), 0)::bigint
    from (
        select m.place, m.nr, m.bytes, sum(m.bytes) over (order by m.nr) as total
        from (
            select d.place, d.nr,
                case
                    when d.stored_total > p_room or pg_column_compression(d.spec) is null then d.stored
                    else pg_column_size(d.spec || '{}')
                end as bytes
            from (
                select p.place, p.nr, r.spec, pg_column_size(r.spec) as stored,
                    sum(pg_column_size(r.spec)) over (order by p.nr) as stored_total
                from unnest(p_rows) with ordinality as p (place, nr)
                join scheduler.run r on r.ctid = p.place
            ) d
        ) m
    ) s
    where s.total <= p_room or (p_first and s.nr = 1)
$$;
comment on function scheduler.fitting(tid[], bigint, boolean) is 'The first rows whose specs fit into a lease.';
