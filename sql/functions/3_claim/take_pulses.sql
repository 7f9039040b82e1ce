create or replace function scheduler.take_pulses(
    p_worker bigint, p_apps text[] default null, p_queues text[] default null, p_executors text[] default null,
    p_limit integer default 10, p_rate double precision default 1000
) returns table (
    app text, job text, lease bigint, run_id bigint, queue text, executor text, spec jsonb, timeout interval,
    lost smallint, period interval, from_end boolean, anchor_at timestamptz, after_at timestamptz, is_gap boolean,
    ends_at timestamptz
)
language plpgsql
security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_now  timestamptz := scheduler.clock();
    v_apps text[];
    v_jobs text[];
begin
    -- Leases up to p_limit jobs that wait for a worker to fire them, and that together fire no more than p_rate times a
    -- second. The worker fires each at anchor_at + k * period, later than after_at (from_end: at the later of anchor_at and
    -- after_at + period, and then so long after each end), until ends_at, under the fence `lease`. is_gap: another worker
    -- was lost while it held the job, and may have fired what lies between after_at and now; that is not fired again.
    -- Few at a time, so that workers share what waits. Rows that another one is taking are passed over.
    if session_user <> current_user or current_setting('role') <> 'none' then
        perform scheduler.admit(a.one) from unnest(p_apps) as a (one);
        p_apps := coalesce(p_apps, scheduler.apps_allowed());
    end if;
    perform from scheduler.worker w where w.id = p_worker and w.dead_at is null and w.stopped_at is null;
    if not found then
        raise exception 'worker % is not registered, has stopped or was declared dead', p_worker using
            errcode = 'JS004', hint = 'Stop what it runs, register again and go on with the new id.';
    end if;
    select array_agg(f.app), array_agg(f.job) into v_apps, v_jobs
    from (
        select w.app, w.job, sum(w.rate) over (order by w.app, w.job) as rate
        from (
            select p.app, p.job, r.rate from scheduler.pulse p
            cross join lateral (select 1 / greatest(extract(epoch from p.period)::float8, 0.01) as rate) r
            cross join lateral (
                select j.queue, j.executor from scheduler.job j where j.app = p.app and j.name = p.job offset 0
            ) j
            -- One that is too fast for what is left does not stand before those that are not.
            where p.worker is null and r.rate <= p_rate and (p_apps is null or p.app = any (p_apps))
                and (p_queues is null or j.queue = any (p_queues))
                and (p_executors is null or j.executor = any (p_executors))
            order by p.app, p.job
            limit p_limit
            for update of p skip locked
        ) w
    ) f
    where f.rate <= p_rate;
    if v_jobs is null then
        return;
    end if;
    -- A statement of its own: it sees the definitions as they are now that the rows are locked. An edit that comes later
    -- waits for this lock, and then has the worker let go.
    return query
    update scheduler.pulse p set
        worker = p_worker, lease = nextval('scheduler.lease_id'), run_id = nextval('scheduler.run_id'), taken_at = v_now,
        reported_at = v_now,
        -- By name: the columns of run may come in another order one day.
        run = jsonb_populate_record(null::scheduler.run, jsonb_build_object(
            'id', 0, 'app', j.app, 'queue', j.queue, 'executor', j.executor, 'spec', j.spec, 'run_at', v_now,
            'priority', j.priority, 'attempt', 0, 'max_attempts', 1, 'lost', p.lost, 'timeout', j.timeout,
            'job', j.name, 'tags', case when j.tags <> '{}' then to_jsonb(j.tags) end
        ))
    from unnest(v_apps, v_jobs) as t (app, job)
    cross join lateral (select j.* from scheduler.job j where j.app = t.app and j.name = t.job offset 0) j
    where p.app = t.app and p.job = t.job
    returning p.app, p.job, p.lease, p.run_id, j.queue, j.executor, j.spec, j.timeout, p.lost, p.period, p.from_end,
        p.anchor_at, p.after_at, p.gap is not null, j.ends_at;
end
$$;
comment on function scheduler.take_pulses(bigint, text[], text[], text[], integer, double precision) is
    'Leases jobs of a short period to a worker, who fires them from its timer.';
