create or replace function scheduler.begin(p_app text, p_worker bigint, p_lease bigint) returns bigint[]
language plpgsql as $$
declare
    v_lease scheduler.lease%rowtype;
begin
    -- Declares, before the first of its runs starts, that a prefetched lease is being executed; returns the ids of the
    -- runs to execute. Those that are missing were cancelled, withdrawn or taken back meanwhile; an empty answer means
    -- there is nothing to do. From here on a crash of the worker costs these runs an attempt, before it did not.
    select * into v_lease from scheduler.lease l
    where l.app = p_app and l.id = p_lease and l.worker = p_worker
    for update;
    if not found then
        return '{}';
    end if;
    -- Only what was not begun: of a lease that was, runs may be executing, and would be started twice.
    if v_lease.begun_at is null and exists (
        select from scheduler.app a where a.app = p_app and a.paused_at is not null
    ) then
        perform scheduler.release(p_app, p_worker, p_lease);
        return '{}';
    end if;
    update scheduler.lease l set begun_at = scheduler.clock()
    where l.app = p_app and l.id = p_lease and l.begun_at is null;
    return array(select r.id from unnest(v_lease.runs) r where r.id <> all (coalesce(v_lease.done, '{}')));
end
$$;
comment on function scheduler.begin(text, bigint, bigint) is 'Declares a prefetched lease started; returns what to execute.';
