create or replace function scheduler.forget(p_before timestamptz) returns integer
language plpgsql as $$
declare
    v_limit constant integer := 10000;
    v_count integer := 0;
    v_more  integer;
begin
    -- Deletes what is older than p_before and lies in no partition of its own: processes that ended, and rows that came
    -- into the default partitions because none was made for their day yet. Partitions are dropped, not emptied.
    -- Frees unique keys and slots whose run or lease somebody deleted by hand: in one snapshot, they come and go together.
    -- At most v_limit rows of each kind, so that no call runs into the statement timeout; returns how many there were,
    -- and whoever gets 0 is done.
    delete from scheduler.worker w where w.id = any (array(
        select o.id from scheduler.worker o
        where coalesce(o.dead_at, o.stopped_at) < p_before and not exists (select from scheduler.lease l where l.worker = o.id)
        limit v_limit
    ));
    get diagnostics v_more = row_count;
    v_count := v_count + v_more;
    delete from scheduler.server s where s.id = any (array(
        select o.id from scheduler.server o where coalesce(o.dead_at, o.stopped_at) < p_before limit v_limit
    ));
    get diagnostics v_more = row_count;
    v_count := v_count + v_more;
    delete from scheduler.history_default h where h.ctid = any (array(
        select o.ctid from scheduler.history_default o where o.finished_at < p_before limit v_limit
    ));
    get diagnostics v_more = row_count;
    v_count := v_count + v_more;
    delete from scheduler.log_default l where l.ctid = any (array(
        select o.ctid from scheduler.log_default o where o.at < p_before limit v_limit
    ));
    get diagnostics v_more = row_count;
    v_count := v_count + v_more;
    delete from scheduler.fire_default f where f.ctid = any (array(
        select o.ctid from scheduler.fire_default o where o.scheduled_at < p_before limit v_limit
    ));
    get diagnostics v_more = row_count;
    v_count := v_count + v_more;
    -- A look-up for each key that is taken: a join read all of run, though few runs or none may have a key.
    with held as materialized (
        select l.app, r.id from scheduler.lease l cross join lateral unnest(l.runs) r where l.keyed
    )
    delete from scheduler.run_key k using (
        select o.app, o.unique_key, o.run_id from scheduler.run_key o
        where (select r.id from scheduler.run r where r.app = o.app and r.id = o.run_id) is null
            and (o.app, o.run_id) not in (select h.app, h.id from held h)
        limit v_limit
    ) orphan
    where k.app = orphan.app and k.unique_key = orphan.unique_key and k.run_id = orphan.run_id;
    get diagnostics v_more = row_count;
    v_count := v_count + v_more;
    delete from scheduler.slot s where s.ctid = any (array(
        select o.ctid from scheduler.slot o
        where (select l.id from scheduler.lease l where l.app = o.app and l.id = o.lease) is null
        limit v_limit
    ));
    get diagnostics v_more = row_count;
    return v_count + v_more;
end
$$;
comment on function scheduler.forget(timestamptz) is 'Deletes old rows that lie outside the daily partitions.';
