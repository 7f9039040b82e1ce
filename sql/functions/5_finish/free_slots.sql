create or replace function scheduler.free_slots(p_app text, p_queue text, p_lease bigint, p_runs bigint[]) returns void
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off
as $$
begin
    -- Gives back the slots that runs had which were struck off a lease, in the transaction that strikes them off, and
    -- tells workers that await hints, when something of the queue waits. A worker that takes runs of a key from another
    -- queue finds the slot when it looks the next time.
    delete from scheduler.slot s where s.app = p_app and s.lease = p_lease and s.run_id = any (p_runs);
    if scheduler.are_hints_awaited(scheduler.hint_bucket(p_app)) and (
        exists (select from scheduler.run r where r.app = p_app and r.queue = p_queue and r.concurrency_key is not null)
        or exists (select from scheduler.run r where r.app = p_app and r.queue = p_queue and r.concurrency_key is null)
    ) then
        perform pg_notify('scheduler_run', p_app || E'\t' || p_queue);
    end if;
end
$$;
comment on function scheduler.free_slots(text, text, bigint, bigint[]) is 'Gives back the slots of runs that left a lease.';
