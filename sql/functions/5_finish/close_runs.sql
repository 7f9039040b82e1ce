create or replace function scheduler.close_runs(p_app text, p_lease bigint, p_runs bigint[]) returns void
language plpgsql as $$
begin
    -- Strikes runs off a lease whose row the caller has locked and whose runs it knows to be open; the lease goes with
    -- its last open run. The runs column is not touched, so its out-of-line value is not written again.
    update scheduler.lease l set done = coalesce(l.done, '{}') || p_runs
    where l.app = p_app and l.id = p_lease and cardinality(coalesce(l.done, '{}')) + cardinality(p_runs) < l.size;
    if not found then
        delete from scheduler.lease l where l.app = p_app and l.id = p_lease;
    end if;
end
$$;
comment on function scheduler.close_runs(text, bigint, bigint[]) is 'Strikes ended runs off a locked lease.';
