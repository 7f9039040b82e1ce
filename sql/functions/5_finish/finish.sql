create or replace function scheduler.finish(
    p_app text, p_worker bigint, p_lease bigint, p_runs bigint[] default null, p_outcomes text[] default null,
    p_results jsonb[] default null, p_errors text[] default null, p_started_at timestamptz[] default null,
    p_finished_at timestamptz[] default null, p_retry_after interval[] default null,
    p_max_attempts smallint[] default null
) returns integer
language plpgsql
security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_now   timestamptz := scheduler.clock();
    v_lease scheduler.lease%rowtype;
    v_ended bigint[];
    v_jobs  boolean;
begin
    -- Ends attempts: writes each into history and strikes it off the lease; a failed or lost one with attempts left goes
    -- back into run, the failed one with backoff, unless its cancellation was asked for: that is then its end.
    -- p_runs null means every open run of the lease in its order; the other arrays run parallel to it, and each may be
    -- null: succeeded, no result, no error, started when the lease was begun, finished now.
    -- Outcomes: succeeded, failed, cancelled, and lost (the process that ran it died; three in a row end the run).
    -- p_retry_after replaces the backoff, p_max_attempts the run's own limit (0: do not try again).
    -- Whoever does not hold the lease changes nothing: the answer, how many attempts were ended, is then 0.
    if session_user <> current_user or current_setting('role') <> 'none' then
        perform scheduler.admit(p_app);
    end if;
    select * into v_lease from scheduler.lease l
    where l.app = p_app and l.id = p_lease and l.worker = p_worker
    for update;
    if not found then
        return 0;
    end if;
    -- The path of 100,000 runs a second: all of a lease at once, nothing but successes, and no limits. It takes 2.8 us of
    -- the server's time a run, in leases of 2,000; the general statement below takes 4.5.
    if p_runs is null and v_lease.done is null and coalesce(p_outcomes, p_errors) is null and p_results is null
        and not v_lease.limited
    then
        insert into scheduler.history (
            app, queue, id, job, executor, spec, outcome, attempt, priority, max_attempts, timeout, retry_delay,
            retry_max_delay, run_at, scheduled_at, started_at, finished_at, worker, fence, unique_key, tags, traceparent
        )
        select r.app, r.queue, r.id, r.job, r.executor, r.spec, 'succeeded', (r.attempt + 1)::smallint, r.priority,
            r.max_attempts, r.timeout, r.retry_delay, r.retry_max_delay, r.run_at, r.scheduled_at,
            coalesce(r.started_at, v_lease.begun_at, v_now), coalesce(r.finished_at, v_now), p_worker, p_lease,
            r.unique_key, r.tags, r.traceparent
        from rows from (unnest(v_lease.runs), unnest(p_started_at), unnest(p_finished_at)) as r (
            id, run_at, priority, attempt, max_attempts, lost, app, queue, executor, spec, timeout, retry_delay,
            retry_max_delay, job, scheduled_at, unique_key, tags, concurrency_key, concurrency_limit, traceparent,
            started_at, finished_at
        )
        where r.id is not null;
        if v_lease.keyed then
            -- Key by key, and by place: a join read all keys there are when there were no statistics.
            delete from scheduler.run_key k where k.ctid = any (array(
                select o.place from unnest(v_lease.runs) r
                cross join lateral (
                    select o.ctid as place from scheduler.run_key o
                    where o.app = p_app and o.unique_key = r.unique_key and o.run_id = r.id offset 0
                ) o
                where r.unique_key is not null
            ));
        end if;
        delete from scheduler.lease l where l.app = p_app and l.id = p_lease;
        if v_lease.jobs is not null and pg_try_advisory_xact_lock(7716802) then
            perform pg_notify('scheduler_job', '');
        end if;
        return v_lease.size;
    end if;
    if p_runs is null then
        p_runs := array(
            select r.id from unnest(v_lease.runs) r where v_lease.done is null or r.id <> all (v_lease.done)
        );
    end if;

    with report as (
        select distinct on (u.id) u.*
        from unnest(
            p_runs, p_outcomes, p_results, p_errors, p_started_at, p_finished_at, p_retry_after, p_max_attempts
        ) as u (id, outcome, result, error, started_at, finished_at, retry_after, max_attempts)
    ), attempt as (
        select r.*, (r.attempt + 1)::smallint as try, coalesce(p.outcome, 'succeeded') as outcome, p.result, p.error,
            coalesce(p.started_at, v_lease.begun_at, v_now) as started_at, coalesce(p.finished_at, v_now) as finished_at,
            p.retry_after, coalesce(p.max_attempts, r.max_attempts) as attempts
        from unnest(v_lease.runs) r
        join report p on p.id = r.id
        where v_lease.done is null or not exists (select from unnest(v_lease.done) as d (id) where d.id = r.id)
    ), ended as (
        select a.*,
            case
                when a.id = any (v_lease.cancel) then null
                when a.outcome = 'lost' and a.lost < 2 and a.try < a.attempts then v_now
                when a.outcome = 'failed' and a.try < a.attempts
                    then v_now + coalesce(a.retry_after, scheduler.backoff(a.try, a.retry_delay, a.retry_max_delay))
            end as retry_at
        from attempt a
    ), noted as (
        insert into scheduler.history (
            app, queue, id, job, executor, spec, outcome, attempt, retry_at, priority, max_attempts, timeout,
            retry_delay, retry_max_delay, run_at, scheduled_at, started_at, finished_at, worker, fence, error, result,
            unique_key, tags, concurrency_key, concurrency_limit, traceparent
        )
        select p_app, e.queue, e.id, e.job, e.executor, e.spec,
            case
                when e.id = any (v_lease.cancel) and (e.outcome = 'lost' or (e.outcome = 'failed' and e.try < e.attempts))
                    then 'cancelled'
                when e.outcome = 'lost' and e.retry_at is null then 'failed'
                else e.outcome
            end,
            e.try, e.retry_at, e.priority, e.max_attempts, e.timeout,
            e.retry_delay, e.retry_max_delay, e.run_at, e.scheduled_at, e.started_at, e.finished_at,
            p_worker, p_lease,
            case
                when e.outcome = 'lost' and e.retry_at is null and e.lost >= 2
                    then concat('poison: lost ', e.lost + 1, ' times in a row with the process that ran it; ', e.error)
                else e.error
            end,
            e.result, e.unique_key, e.tags, e.concurrency_key, e.concurrency_limit, e.traceparent
        from ended e
    ), again as (
        insert into scheduler.run (
            app, queue, id, executor, spec, run_at, priority, attempt, max_attempts, lost, timeout, retry_delay,
            retry_max_delay, job, scheduled_at, unique_key, tags, concurrency_key, concurrency_limit,
            traceparent
        )
        select p_app, e.queue, e.id, e.executor, e.spec, e.retry_at, e.priority, e.try, e.max_attempts,
            case when e.outcome = 'lost' then e.lost + 1 else 0 end, e.timeout, e.retry_delay, e.retry_max_delay,
            e.job, e.scheduled_at, e.unique_key, e.tags, e.concurrency_key, e.concurrency_limit, e.traceparent
        from ended e
        where e.retry_at is not null
    ), freed as (
        delete from scheduler.run_key k where k.ctid = any (array(
            select o.place from ended e
            cross join lateral (
                select o.ctid as place from scheduler.run_key o
                where o.app = p_app and o.unique_key = e.unique_key and o.run_id = e.id offset 0
            ) o
            where e.retry_at is null and e.unique_key is not null
        ))
    )
    select array_agg(e.id), bool_or(e.job is not null) into v_ended, v_jobs from ended e;
    if v_ended is null then
        return 0;
    end if;
    perform scheduler.close_runs(p_app, p_lease, v_ended);
    -- A job's next run may have waited for this one. One notifier at a time: the planner needs no more.
    if v_jobs and pg_try_advisory_xact_lock(7716802) then
        perform pg_notify('scheduler_job', '');
    end if;
    return cardinality(v_ended);
end
$$;
comment on function scheduler.finish(
    text, bigint, bigint, bigint[], text[], jsonb[], text[], timestamptz[], timestamptz[], interval[], smallint[]
) is 'Ends attempts of a lease; only its holder can. Returns how many counted.';
