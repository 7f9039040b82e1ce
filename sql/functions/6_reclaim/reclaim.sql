drop function if exists scheduler.reclaim(interval, integer);
create or replace function scheduler.reclaim(p_dead_after interval, p_limit integer default 100)
returns table (app text, lease bigint, worker bigint, runs integer, lost boolean, poisoned integer)
language plpgsql as $$
#variable_conflict use_column
declare
    v_now   timestamptz := scheduler.clock();
    v_lease record;
    v_error text;
begin
    -- Declares workers dead that were silent for p_dead_after, and takes back up to p_limit leases of workers that are
    -- not alive. Of a lease that was begun the open runs end as lost attempts; of a prefetched one they go back unharmed.
    -- Any server may call it, several at once: a lease is taken by whoever locks it first, and finish() and this compete
    -- for that same lock, so an attempt ends once.
    -- Nobody is dead for having been silent while PostgreSQL itself was down. (Of servers, assign_apps says so.)
    update scheduler.worker w set dead_at = v_now
    where w.dead_at is null and w.stopped_at is null and greatest(w.seen_at, pg_postmaster_start_time()) < v_now - p_dead_after;

    for v_lease in
        -- Asked for who is alive: those are few. A join with all who ever were read 20,000 rows of worker each second.
        select l.app, l.id, l.worker, l.begun_at, l.runs, l.done, l.cancel
        from scheduler.lease l
        where not exists (
            select from scheduler.worker w where w.id = l.worker and w.dead_at is null and w.stopped_at is null
        )
        order by l.id
        limit p_limit
        for update of l skip locked
    loop
        app := v_lease.app;
        lease := v_lease.id;
        worker := v_lease.worker;
        lost := v_lease.begun_at is not null;
        poisoned := 0;
        if lost then
            select format('worker %s (%s on %s) was lost', v_lease.worker, coalesce(max(w.label), '?'), coalesce(max(w.host), '?'))
            into v_error
            from scheduler.worker w where w.id = v_lease.worker;
            select scheduler.finish(
                v_lease.app, v_lease.worker, v_lease.id, o.ids, array_fill('lost'::text, array[cardinality(o.ids)]),
                p_errors => array_fill(v_error, array[cardinality(o.ids)])
            ), o.poisoned into runs, poisoned
            from (
                -- As finish() decides: the third attempt in a row that is lost ends the run.
                select array_agg(r.id) as ids,
                    count(*) filter (where r.lost >= 2 and r.id <> all (coalesce(v_lease.cancel, '{}'))) as poisoned
                from unnest(v_lease.runs) r where r.id <> all (coalesce(v_lease.done, '{}'))
            ) o;
        else
            runs := scheduler.release(v_lease.app, v_lease.worker, v_lease.id);
        end if;
        return next;
    end loop;
    -- What they fired from timers comes back as well: one run each, the span that was never reported.
    return query select p.app, p.lease, p.worker, 1, true, 0 from scheduler.reclaim_pulses(p_limit) p;
end
$$;
comment on function scheduler.reclaim(interval, integer) is 'Declares silent workers dead and takes back what they held.';
