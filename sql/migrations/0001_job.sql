-- What should run: the definition (job), the part of it that moves (job_schedule), and the ledger of instants (fire).
-- The moving part has a row of its own, so that a planner can never undo an edit, and an edit never waits for a planner.

create table scheduler.app (
    app       text        not null,
    paused_at timestamptz,                 -- set: nothing of this app is planned or claimed
    constraint app_pkey primary key (app),
    constraint app_is_1_to_100_characters check (length(app) between 1 and 100)
);

create table scheduler.job (
    app             text        not null default 'default',
    name            text        not null,
    schedule        text,                                    -- null: on demand
    timezone        text        not null default 'UTC',
    executor        text        not null,
    spec            jsonb       not null default '{}',
    queue           text        not null default 'default',
    priority        smallint    not null default 0,          -- lower first; negative is allowed
    max_attempts    smallint    not null default 3,
    timeout         interval    not null default '1 hour',
    retry_delay     interval    not null default '5 seconds', -- doubles, full jitter
    retry_max_delay interval    not null default '1 hour',
    overlap         text        not null default 'skip',
    misfire         text        not null default 'one',
    misfire_grace   interval    not null default '1 day',    -- instants later than this are missed, whatever the policy
    misfire_limit   integer     not null default 100,        -- the cap of misfire = all and of overlap = queue
    dst_gap         text        not null default 'after',
    dst_fold        text        not null default 'first',
    jitter          interval,
    starts_at       timestamptz,
    ends_at         timestamptz,
    paused_at       timestamptz,
    tags            text[]      not null default '{}',
    concurrency_key text,                                    -- its runs share the key's slots with all others that name it
    concurrency_limit integer,                               -- how many slots that is; null: 1
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    constraint job_pkey primary key (app, name),
    constraint app_is_1_to_100_characters check (length(app) between 1 and 100),
    constraint name_is_1_to_200_characters check (length(name) between 1 and 200),
    constraint schedule_is_at_most_500_characters check (length(schedule) <= 500),
    constraint executor_is_1_to_100_characters check (length(executor) between 1 and 100),
    constraint queue_is_1_to_100_characters check (length(queue) between 1 and 100),
    constraint spec_is_an_object check (jsonb_typeof(spec) = 'object'),
    -- Unpacked: a spec that comes out of a table has its compressed size, and 20 MB passed. Below 2,000 bytes even the
    -- best compression hides no 1 MiB, and nothing has to be unpacked.
    constraint spec_is_at_most_1_mib check (
        case when pg_column_size(spec) < 2000 then true else pg_column_size(spec || '{}') <= 1048576 end
    ),
    constraint max_attempts_is_at_least_1 check (max_attempts >= 1),
    constraint timeout_is_positive check (timeout > interval '0'),
    constraint retry_delay_is_not_negative check (retry_delay >= interval '0'),
    constraint retry_max_delay_is_not_negative check (retry_max_delay >= interval '0'),
    constraint overlap_is_known check (overlap in ('allow', 'skip', 'queue', 'replace')),
    constraint misfire_is_known check (misfire in ('skip', 'one', 'all')),
    constraint misfire_grace_is_not_negative check (misfire_grace >= interval '0'),
    constraint misfire_limit_is_1_to_10000 check (misfire_limit between 1 and 10000),
    constraint dst_gap_is_known check (dst_gap in ('after', 'skip')),
    constraint dst_fold_is_known check (dst_fold in ('first', 'second', 'both')),
    constraint jitter_is_not_negative check (jitter >= interval '0'),
    constraint concurrency_key_is_1_to_200_characters check (length(concurrency_key) between 1 and 200),
    constraint concurrency_limit_is_at_least_1 check (concurrency_limit >= 1),
    constraint concurrency_limit_has_a_key check (concurrency_limit is null or concurrency_key is not null),
    constraint ends_after_it_starts check (ends_at >= starts_at)
);

-- For the list of queues, which read 100,000 jobs to find a hundred queues. Every queue is >= ''; who does not say so
-- cannot use this index, and looks a job up by its key. Otherwise, while there are no statistics, it is taken as the
-- smaller one: each look-up then read all jobs of the app, and 2,000 of 100,000 new ones were not planned after 10 s.
create index job_queue on scheduler.job (app, queue) where queue >= '';

create table scheduler.job_schedule (
    app       text        not null,
    job       text        not null,
    next_at   timestamptz,                     -- earliest instant not yet decided; -infinity: to be computed; null: none to come
    after_at  timestamptz not null,            -- when next_at is -infinity: only instants later than this count
    anchor_at timestamptz not null,            -- @every counts its periods from here
    revision  bigint      not null default 1,  -- grows with every edit; a plan made from an older one is void
    delay     interval,                        -- of @after, once its schedule was understood
    awaits    bigint,                          -- of @after: the run whose end starts the delay
    deferred_at timestamptz,                   -- set: next_at is within reach, but the job's previous run has not ended
    error     text,                            -- why the schedule cannot be followed
    constraint job_schedule_pkey primary key (app, job),
    constraint job_schedule_of_a_job foreign key (app, job) references scheduler.job (app, name) on delete cascade
) with (fillfactor = 70);

-- Deferred instants are kept out of what planners read again and again: 10,000 of them cost 2 s a look.
create index job_schedule_next on scheduler.job_schedule (next_at, app, job) where next_at is not null and deferred_at is null;
create index job_schedule_deferred on scheduler.job_schedule (next_at, app, job) where deferred_at is not null;
-- For those who look for what cannot be planned: of a million jobs there are none, or a few.
create index job_schedule_invalid on scheduler.job_schedule (app, job) where error is not null;
create index job_schedule_awaits on scheduler.job_schedule (app, job) where awaits is not null;

create table scheduler.fire (
    app          text        not null,
    job          text        not null,
    scheduled_at timestamptz not null,
    outcome      text        not null,
    reason       text,
    run_id       bigint,          -- the run it became, or was coalesced into
    decided_at   timestamptz not null,
    instants     integer,         -- set: the row stands for so many, all from scheduled_at until last_at; fired by a worker
    last_at      timestamptz,
    constraint fire_pkey primary key (app, job, scheduled_at),
    constraint outcome_is_known check (outcome in ('planned', 'skipped', 'coalesced', 'missed', 'fired'))
) partition by range (scheduled_at);

create table scheduler.fire_default partition of scheduler.fire default;
