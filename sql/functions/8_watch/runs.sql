create or replace view scheduler.runs with (security_invoker = true) as
-- Runs in every state, each once. Columns are added at the end only. With the rights of who asks, so that one whose role
-- is restricted to some apps sees no others here.
-- The casts rid them of the domains of run: of parts whose types differ, PostgreSQL reads all before it compares, and
-- a look for one run read 4,000 blocks of an index.
select r.app::text, r.queue::text, r.id, r.job, r.executor::text, r.spec::jsonb, 'pending'::text as state, r.attempt,
    r.run_at, r.scheduled_at, null::timestamptz as started_at, null::timestamptz as finished_at, null::bigint as worker,
    null::bigint as fence, null::text as error, null::jsonb as result, r.tags, r.priority,
    r.max_attempts::smallint as max_attempts, r.unique_key::text as unique_key, r.concurrency_key, r.concurrency_limit,
    r.traceparent::text
from scheduler.run r
union all
select l.app, r.queue::text, r.id, r.job, r.executor::text, r.spec::jsonb,
    case when l.begun_at is null then 'pending' else 'running' end,
    case when l.begun_at is null then r.attempt else (r.attempt + 1)::smallint end, r.run_at, r.scheduled_at, l.begun_at,
    null, l.worker, l.id, null, null, r.tags, r.priority, r.max_attempts::smallint, r.unique_key::text, r.concurrency_key,
    r.concurrency_limit, r.traceparent::text
from scheduler.lease l
cross join lateral unnest(l.runs) r
where r.id <> all (coalesce(l.done, '{}'))
union all
select h.app, h.queue, h.id, h.job, h.executor, h.spec, h.outcome, h.attempt, h.run_at, h.scheduled_at, h.started_at,
    h.finished_at, h.worker, h.fence, h.error, h.result, h.tags, h.priority, h.max_attempts, h.unique_key,
    h.concurrency_key, h.concurrency_limit, h.traceparent
from scheduler.history h
where h.retry_at is null;
comment on view scheduler.runs is 'Runs in every state: pending, running, succeeded, failed, cancelled.';
