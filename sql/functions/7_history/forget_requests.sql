create or replace function scheduler.forget_requests(p_before timestamptz) returns integer
language plpgsql
-- By the index, whatever the statistics say of a table that is mostly empty.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    v_count integer;
begin
    -- Deletes idempotency keys that are older, the oldest first and at most 10,000; returns how many.
    delete from scheduler.idempotency i where i.ctid = any (array(
        select o.ctid from scheduler.idempotency o where o.kept_at < p_before order by o.kept_at limit 10000
    ));
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
comment on function scheduler.forget_requests(timestamptz) is 'Deletes old idempotency keys.';
