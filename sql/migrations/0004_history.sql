-- What happened: one row per attempt that ended, and what the runs wrote. Append-only, partitioned by day,
-- forgotten by dropping a partition and never row by row.

create table scheduler.history (
    app          text        not null,
    queue        text        not null,
    id           bigint      not null,
    job          text,
    executor     text        not null,
    spec         jsonb       not null,
    outcome      text        not null,
    attempt      smallint    not null,
    retry_at     timestamptz,           -- set: the run was to be tried again then; null: this was its end
    priority     smallint    not null,
    max_attempts smallint    not null,
    timeout      interval,
    retry_delay  interval,
    retry_max_delay interval,
    run_at       timestamptz not null,
    scheduled_at timestamptz,
    started_at   timestamptz,           -- null: it was cancelled before it started
    finished_at  timestamptz not null,
    worker       bigint,
    fence        bigint,
    error        text,
    result       jsonb,
    unique_key   text,
    tags         text[],
    concurrency_key   text,
    concurrency_limit integer,
    traceparent  text,
    constraint outcome_is_known check (outcome in ('succeeded', 'failed', 'cancelled', 'lost'))
) partition by range (finished_at);

create index history_run on scheduler.history (app, id);
-- By id, as lists are: with finished_at here, a page of a job's runs walked its app's whole history, or sorted the job's.
create index history_job on scheduler.history (app, job, id) where job is not null;
-- Failures are few and looked for often: without it, a page of them took 2 to 3 s of 1,000,000 rows.
create index history_unsuccessful on scheduler.history (app, id) where outcome <> 'succeeded';
create table scheduler.history_default partition of scheduler.history default;

create table scheduler.log (
    app     text        not null,
    run_id  bigint      not null,
    attempt smallint    not null,
    line    integer     not null,
    at      timestamptz not null,
    stream  text        not null,
    text    text        not null,
    constraint log_pkey primary key (app, run_id, attempt, line, at)
) partition by range (at);

create table scheduler.log_default partition of scheduler.log default;
