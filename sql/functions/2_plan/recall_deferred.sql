create or replace function scheduler.recall_deferred(p_server bigint) returns integer
language plpgsql
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_count integer;
begin
    -- Has deferred instants looked at again whose job has no run pending or running any more, so that they are written
    -- ahead of time after all. One that comes due is looked at in any case. Only of apps that the server owns; that is
    -- read in the statement which writes. Returns how many were recalled.
    if not exists (select from scheduler.job_schedule s where s.deferred_at is not null) then
        return 0;
    end if;
    with leased as materialized (
        select distinct l.app, l.job from scheduler.leased_runs() l
    ), free as materialized (
        select s.ctid as place
        from scheduler.job_schedule s
        where s.deferred_at is not null
            and (select o.server from scheduler.owner o where o.app = s.app) = p_server
            and (
                select r.id from scheduler.run r where r.app = s.app and r.job = s.job order by r.scheduled_at limit 1
            ) is null
            and (s.app, s.job) not in (select l.app, l.job from leased l)
        for update skip locked
    )
    update scheduler.job_schedule s set deferred_at = null
    from free f
    where s.ctid = f.place;
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
comment on function scheduler.recall_deferred(bigint) is 'Has deferred instants planned whose job has become free.';
