create or replace function scheduler.gauge_processes(
    p_server bigint, p_dead_after interval,
    out owned bigint, out unowned bigint, out servers bigint, out workers bigint
)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
    v_now   timestamptz := scheduler.clock();
    v_alive bigint[] := array(
        select s.id from scheduler.server s
        where s.dead_at is null and s.stopped_at is null
            and greatest(s.seen_at, pg_postmaster_start_time()) >= v_now - p_dead_after
    );
begin
    -- How many apps the server owns, how many no living server owns, and how many servers and workers have sent a
    -- heartbeat within p_dead_after, or within that time of PostgreSQL's own start. A server that is silent counts as dead
    -- though nobody may be able to declare it so. Owners are walked by server, so what others own is not read.
    select count(*) into owned from scheduler.owner o where o.server = p_server;
    with recursive owning (server) as (
        (select o.server from scheduler.owner o order by o.server limit 1)
        union all
        select n.server
        from owning p
        cross join lateral (
            select o.server from scheduler.owner o where o.server > p.server order by o.server limit 1
        ) n
    )
    select coalesce(sum(c.apps), 0) into unowned
    from owning w
    cross join lateral (select count(*) as apps from scheduler.owner o where o.server = w.server) c
    where w.server <> all (v_alive);
    servers := cardinality(v_alive);
    select count(*) into workers from scheduler.worker w
    where w.dead_at is null and w.stopped_at is null
        and greatest(w.seen_at, pg_postmaster_start_time()) >= v_now - p_dead_after;
end
$$;
comment on function scheduler.gauge_processes(bigint, interval) is 'How many apps have an owner, and who is alive.';
