create or replace function scheduler.release(p_app text, p_worker bigint, p_lease bigint, p_runs bigint[] default null)
returns integer
language plpgsql as $$
declare
    v_lease scheduler.lease%rowtype;
    v_held  scheduler.run[];
    v_runs  bigint[];
    v_ended integer;
begin
    -- Gives runs that were not started (null: all open ones of the lease) back into run, unharmed: no attempt is counted.
    -- One whose cancellation was asked for ends as cancelled instead. Only the holder can; returns how many came back.
    select * into v_lease from scheduler.lease l
    where l.app = p_app and l.id = p_lease and l.worker = p_worker
    for update;
    if not found then
        return 0;
    end if;
    if v_lease.keyed and v_lease.cancel is not null then
        -- put_ticks gives the key of a tick that was started to the tick that comes after it; without it this one can
        -- come back, and end as cancelled.
        v_held := array(
            select case when k.run_id <> r.id then jsonb_populate_record(r, '{"unique_key": null}') else r end
            from unnest(v_lease.runs) r
            left join lateral (
                select o.run_id from scheduler.run_key o
                where o.app = p_app and o.unique_key = r.unique_key and r.id = any (v_lease.cancel) offset 0
            ) k on true
        );
    end if;
    with back as (
        insert into scheduler.run
        select r.* from unnest(coalesce(v_held, v_lease.runs)) r
        where r.id <> all (coalesce(v_lease.done, '{}')) and (p_runs is null or r.id = any (p_runs))
        returning run.id
    )
    select array_agg(b.id) into v_runs from back b;
    if v_runs is null then
        return 0;
    end if;
    perform scheduler.close_runs(p_app, p_lease, v_runs);
    perform scheduler.cancel(p_app, c.id) from unnest(v_lease.cancel) c (id) where c.id = any (v_runs);
    get diagnostics v_ended = row_count;
    return cardinality(v_runs) - v_ended;
end
$$;
comment on function scheduler.release(text, bigint, bigint, bigint[]) is 'Gives unstarted runs of a lease back unharmed.';
