create or replace function scheduler.weigh_apps(
    p_server bigint, p_apps text[] default '{}', p_runs bigint[] default '{}'
) returns integer
language plpgsql
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
    v_count integer;
begin
    -- Weighs what the server owns: by the jobs of each app, and by the runs that were lately planned for those in p_apps,
    -- of which the server keeps count. (Counted in the rows, they would be rewritten with each plan.) Only what differs by
    -- more than a fifth is written. Apps that have no job left are forgotten. Returns how many were written.
    delete from scheduler.owner o
    where o.server = p_server
        and (select s.job from scheduler.job_schedule s where s.app = o.app order by s.job limit 1) is null;
    update scheduler.owner o set weight = w.weight
    from (
        select o.place, o.weight as before, j.weight + coalesce(r.runs, 0) as weight
        from (select o.app, o.weight, o.ctid as place from scheduler.owner o where o.server = p_server offset 0) o
        cross join lateral scheduler.weight_of(o.app) j
        left join unnest(p_apps, p_runs) r (app, runs) on r.app = o.app
        offset 0
    ) w
    where o.ctid = w.place and o.server = p_server and abs(w.weight - w.before) * 5 > w.before;
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
comment on function scheduler.weigh_apps(bigint, text[], bigint[]) is 'Weighs the apps of a server by their jobs and runs.';
