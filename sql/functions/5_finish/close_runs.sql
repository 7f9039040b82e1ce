create or replace function scheduler.close_runs(p_app text, p_lease bigint, p_runs bigint[]) returns void
language plpgsql as $$
declare
    v_queue   text;
    v_limited boolean;
begin
    -- Strikes runs off a lease whose row the caller has locked and whose runs it knows to be open; the lease goes with
    -- its last open run. The runs column is not touched, so its out-of-line value is not written again.
    -- Every way out of a lease with limits leads through here, so that no slot is left behind.
    update scheduler.lease l set done = coalesce(l.done, '{}') || p_runs
    where l.app = p_app and l.id = p_lease and cardinality(coalesce(l.done, '{}')) + cardinality(p_runs) < l.size
    returning l.queue, l.limited into v_queue, v_limited;
    if not found then
        delete from scheduler.lease l where l.app = p_app and l.id = p_lease
        returning l.queue, l.limited into v_queue, v_limited;
    end if;
    if v_limited then
        perform scheduler.free_slots(p_app, v_queue, p_lease, p_runs);
    end if;
end
$$;
comment on function scheduler.close_runs(text, bigint, bigint[]) is 'Strikes ended runs off a locked lease.';
