create or replace function scheduler.plan_fires(p_app text, p_server bigint, p_epoch bigint, p_plans jsonb) returns table (
    job text, scheduled_at timestamptz, outcome text, run_id bigint
)
language plpgsql
-- A plan of this statement that was made while run was empty read all of it, once for each page: 100,000 jobs took 17 s
-- or, with luck, 7. So it is planned each time (1.5 ms), and finds rows by their keys whatever the statistics say. With
-- sorts on, it read all runs of an app that the statistics did not know for each job: 55 million entries of run_pkey,
-- 9.9 s for one page, and the last of 100,000 jobs started 8.6 s late.
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_now      timestamptz := scheduler.clock();
    v_plans    integer[];
    v_jobs     text[];
    v_places   tid[];
    v_overlaps text[];
    v_limits   integer[];
    v_single   text[];
    v_deferred text[] := '{}';
    v_awaiting text[] := '{}';
    v_awaited  bigint[] := '{}';
    v_fire     record;
begin
    -- Writes what a planner decided for jobs of one app: the ledger row of each instant, the pre-execution records and
    -- the jobs' next instants, in one transaction. p_plans is an array of objects
    --   {jobs, revisions, expected, next, delay, error, fires: [{at, outcome, reason, run_at}]},
    -- each for jobs that are decided alike. For a job it is void when the job was edited since (revision), was planned by
    -- someone else (expected: the next_at it was made from) or is being planned right now. The ledger's key is what makes
    -- a double fire impossible.
    -- An instant whose job may not overlap, and whose previous run has not ended, comes back as 'deferred' until it is
    -- due. Then it is decided: skipped, or written as a run that waits (run_at infinity, after all that claims read).
    -- Such a job brings one instant to be planned at most: whether it is busy is asked once per plan.
    -- Returns what came into the ledger, what was deferred, and a row 'moved' for each job whose next instant was set;
    -- an instant that is in the ledger already is passed over. A plan of @after brings its delay, unless the job has ended.
    -- Nothing at all when the server does not own the app under this epoch any more. The lock keeps it the owner until
    -- the commit: once assign_apps has given the app to another, nothing that the former one began is written.
    perform from scheduler.owner o where o.app = p_app and o.server = p_server and o.epoch = p_epoch for share;
    if not found then
        return;
    end if;
    -- A few jobs, as of one of 10,000 small apps, are not worth a plan of their own: it took four fifths of the 3 ms that
    -- each such call took. No order of joins is bad for them, and rows are found by their keys in any case.
    if pg_column_size(p_plans) < 8000 then
        perform set_config('plan_cache_mode', 'force_generic_plan', true);
    end if;
    select array_agg(p.nr), array_agg(s.job), array_agg(s.place), array_agg(j.overlap), array_agg(j.misfire_limit),
        coalesce(array_agg(s.job) filter (where j.overlap <> 'allow'), '{}')
    into v_plans, v_jobs, v_places, v_overlaps, v_limits, v_single
    from rows from (
        jsonb_to_recordset(p_plans) as (jobs text[], revisions bigint[], expected timestamptz)
    ) with ordinality as p (jobs, revisions, expected, nr)
    cross join lateral unnest(p.jobs, p.revisions) as u (job, revision)
    cross join lateral (
        select s.job, s.ctid as place from scheduler.job_schedule s
        where s.app = p_app and s.job = u.job and s.revision = u.revision and s.next_at = p.expected
        for update skip locked
    ) s
    cross join lateral (
        select j.overlap, j.misfire_limit from scheduler.job j where j.app = p_app and j.name = s.job offset 0
    ) j;

    for v_fire in
        with held as materialized (
            select h.nr, h.job, h.overlap, h.misfire_limit
            from unnest(v_plans, v_jobs, v_overlaps, v_limits) as h (nr, job, overlap, misfire_limit)
        ), active as materialized (
            select s.job, r.id
            from unnest(v_single) as s (job)
            cross join lateral (
                -- In the order of the index run_job, so that no other one is taken.
                select r.id from scheduler.run r where r.app = p_app and r.job = s.job order by r.scheduled_at offset 0
            ) r
            union all
            select l.job, l.id from scheduler.leased_runs(p_app, v_single) l
        ), busy as materialized (
            select a.job, array_agg(a.id order by a.id) as runs from active a group by a.job
        ), instant as materialized (
            select p.nr, p.delay is not null as is_awaited, f.at, f.outcome, f.reason, f.run_at
            from rows from (jsonb_to_recordset(p_plans) as (delay interval, fires jsonb)) with ordinality as p (delay, fires, nr)
            cross join lateral jsonb_to_recordset(p.fires) as f (at timestamptz, outcome text, reason text, run_at timestamptz)
        ), decided as materialized (
            select d.*, case when d.outcome = 'planned' then nextval('scheduler.run_id') end as run_id
            from (
                select h.job, f.is_awaited, f.at, f.run_at, b.runs as busy, h.overlap,
                    case
                        when f.outcome <> 'planned' or h.overlap = 'allow' or b.runs is null then f.outcome
                        when f.at > v_now then 'deferred'
                        when h.overlap = 'skip' or cardinality(b.runs) > h.misfire_limit then 'skipped'
                        else 'planned'
                    end as outcome,
                    case
                        when f.outcome <> 'planned' or h.overlap = 'allow' or b.runs is null or f.at > v_now then f.reason
                        when h.overlap = 'skip' then format('overlap: run %s has not ended', b.runs[1])
                        when cardinality(b.runs) > h.misfire_limit then format('overlap: %s runs wait already', cardinality(b.runs) - 1)
                        when h.overlap = 'replace' then format('replaces run %s', b.runs[1])
                        else format('waits for run %s', b.runs[1])
                    end as reason
                from held h
                join instant f on f.nr = h.nr
                left join busy b on b.job = h.job
            ) d
        ), ledger as (
            insert into scheduler.fire as f (app, job, scheduled_at, outcome, reason, run_id, decided_at)
            select p_app, d.job, d.at, d.outcome, d.reason,
                case when d.outcome = 'coalesced' then max(d.run_id) over (partition by d.job) else d.run_id end, v_now
            from decided d
            where d.outcome <> 'deferred'
            on conflict do nothing
            returning f.job, f.scheduled_at, f.outcome, f.run_id
        ), written as (
            insert into scheduler.run (
                app, queue, id, executor, spec, run_at, priority, max_attempts, timeout, retry_delay, retry_max_delay,
                job, scheduled_at, tags, concurrency_key, concurrency_limit
            )
            select p_app, j.queue, l.run_id, j.executor, j.spec,
                case when d.busy is not null then 'infinity' else d.run_at end,
                j.priority, j.max_attempts, j.timeout, j.retry_delay, j.retry_max_delay,
                l.job, l.scheduled_at, nullif(j.tags, '{}'), j.concurrency_key, j.concurrency_limit
            from ledger l
            join decided d on d.job = l.job and d.at = l.scheduled_at
            cross join lateral (select j.* from scheduler.job j where j.app = p_app and j.name = l.job offset 0) j
            where l.outcome = 'planned'
        )
        select d.job, d.is_awaited, d.at, d.outcome, d.run_id, d.overlap, d.busy
        from decided d
        left join ledger l on l.job = d.job and l.scheduled_at = d.at
        where d.outcome = 'deferred' or l.job is not null
        order by d.at
    loop
        if v_fire.outcome = 'deferred' then
            v_deferred := v_deferred || v_fire.job;
        elsif v_fire.outcome = 'planned' then
            if v_fire.overlap = 'replace' and v_fire.busy is not null then
                perform scheduler.cancel_run(p_app, b.run) from unnest(v_fire.busy) as b (run);
            end if;
            if v_fire.is_awaited then
                v_awaiting := v_awaiting || v_fire.job;
                v_awaited := v_awaited || v_fire.run_id;
            end if;
        end if;
        job := v_fire.job;
        scheduled_at := v_fire.at;
        outcome := v_fire.outcome;
        run_id := v_fire.run_id;
        return next;
    end loop;

    -- By place: the rows are locked, so that is where they are.
    update scheduler.job_schedule s set deferred_at = v_now
    where s.ctid = any (array(
            select h.place from unnest(v_jobs, v_places) as h (job, place)
            where h.job in (select d.job from unnest(v_deferred) as d (job))
        ))
        and s.deferred_at is null;
    return query
    update scheduler.job_schedule s set
        error = m.error,
        delay = m.delay,
        awaits = case when m.delay is not null and isfinite(s.next_at) then m.run_id end,
        next_at = case when m.delay is not null and m.next is null and m.run_id is null then v_now + m.delay else m.next end,
        deferred_at = null
    from (
        select h.place, p.next, p.delay, p.error, a.run_id
        from unnest(v_plans, v_jobs, v_places) as h (nr, job, place)
        join rows from (
            jsonb_to_recordset(p_plans) as (next timestamptz, delay interval, error text)
        ) with ordinality as p (next, delay, error, nr) on p.nr = h.nr
        left join unnest(v_awaiting, v_awaited) as a (job, run_id) on a.job = h.job
        where h.job not in (select d.job from unnest(v_deferred) as d (job))
    ) m
    where s.ctid = m.place
    returning s.job, null::timestamptz, 'moved', null::bigint;
end
$$;
comment on function scheduler.plan_fires(text, bigint, bigint, jsonb) is 'Writes ledger, pre-execution records and next instants at once.';
