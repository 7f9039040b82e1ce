-- What is to run (run), what is being run (lease), which unique keys are taken (run_key), and what limits it: the slots of
-- concurrency keys that are taken (slot), and what an operator allows a queue (queue_limit).
-- Rows are inserted and deleted, never updated in place: claiming deletes a batch from run and writes one lease row.
-- Measured on two cores, 100,000 runs: 158,000 runs/s in batches of 500, against 30,000 with a state column updated twice.

create sequence scheduler.run_id;

-- The rules of one column are domains, not checks of the table: an insert parses and plans each check of its table anew
-- for every statement, while a session compiles a domain once. All as checks cost 28 to 31 µs of the backend's CPU for
-- each one-row insert (45 to 55 without), the domains 5 to 8. By the checks alone, one insert per transaction fell to
-- 0.82 of a bare table. Clients see the base types. The rule over two columns is in an index, see run_waiting.
create domain scheduler.run_app as text
    constraint app_is_1_to_100_characters check (length(value) between 1 and 100);
create domain scheduler.run_queue as text
    constraint queue_is_1_to_100_characters check (length(value) between 1 and 100);
create domain scheduler.run_executor as text
    constraint executor_is_1_to_100_characters check (length(value) between 1 and 100);
create domain scheduler.run_spec as jsonb
    constraint spec_is_an_object check (jsonb_typeof(value) = 'object')
    -- Unpacked: a spec that comes out of a table has its compressed size, and 20 MB passed. Below 2,000 bytes even the
    -- best compression hides no 1 MiB, and nothing has to be unpacked.
    constraint spec_is_at_most_1_mib check (
        case when pg_column_size(value) < 2000 then true else pg_column_size(value || '{}') <= 1048576 end
    );
create domain scheduler.run_max_attempts as smallint
    constraint max_attempts_is_at_least_1 check (value >= 1);
create domain scheduler.run_timeout as interval
    constraint timeout_is_positive check (value > interval '0');
create domain scheduler.run_retry_delay as interval
    constraint retry_delay_is_not_negative check (value >= interval '0');
create domain scheduler.run_retry_max_delay as interval
    constraint retry_max_delay_is_not_negative check (value >= interval '0');
create domain scheduler.run_unique_key as text
    constraint unique_key_is_1_to_500_characters check (length(value) between 1 and 500);

-- Numbers and instants first, then text: between texts each one is aligned to 8 bytes, which cost 12 of a plain run's 340.
create table scheduler.run (
    id              bigint                        not null default nextval('scheduler.run_id'),
    run_at          timestamptz                   not null default now(),  -- when it may start; moves with backoff; infinity: waits for the job's previous run
    priority        smallint                      not null default 0,      -- lower first; negative is allowed
    attempt         smallint                      not null default 0,      -- attempts used so far
    max_attempts    scheduler.run_max_attempts    not null default 3,
    lost            smallint                      not null default 0,      -- attempts lost in a row, with the worker that ran them
    app             scheduler.run_app             not null default 'default',
    queue           scheduler.run_queue           not null default 'default',
    executor        scheduler.run_executor        not null,
    spec            scheduler.run_spec            not null default '{}',
    timeout         scheduler.run_timeout,                                 -- null: the task's, else 1 hour
    retry_delay     scheduler.run_retry_delay,                             -- null: 5 seconds
    retry_max_delay scheduler.run_retry_max_delay,                         -- null: 1 hour
    job             text,
    scheduled_at    timestamptz,                                           -- the nominal instant of the schedule; never changes
    unique_key      scheduler.run_unique_key,
    tags            text[],
    concurrency_key text,                                                  -- of the app's runs that name it, so many are held at once …
    concurrency_limit integer,                                             -- … null: 1
    -- Of what enqueued it, as W3C writes it; who reads it passes over what is none. Bounded by its type and not by a rule:
    -- a length is looked at where there is one, a domain also where there is none.
    traceparent     varchar(100),
    constraint run_pkey primary key (app, id)
);

-- The claim reads it one lane (queue, priority, executor) at a time, from the lane's oldest due run.
-- Runs with a key are not in it: it holds what may be taken as it comes. Skipping at claim time what a limit forbids, a
-- peer fell from 11,800 claims/s to 40.
create index run_due on scheduler.run (app, queue, priority, executor, run_at, id) where concurrency_key is null;
-- Runs with a key: by key, for the claims that go from key to key, in the same lanes; and by time, to know when the next
-- is due. The casts are the rules of the two columns, which cost nothing here for rows that have neither (see run_waiting).
create domain scheduler.run_key_length as integer
    constraint concurrency_key_is_1_to_200_characters check (value between 1 and 200)
    constraint concurrency_limit_has_a_key check (value is not null);
create domain scheduler.run_key_limit as integer
    constraint concurrency_limit_is_at_least_1 check (value >= 1);
create index run_keyed_at on scheduler.run (
    app, queue, executor, run_at, (cast(length(concurrency_key) as scheduler.run_key_length)),
    (cast(concurrency_limit as scheduler.run_key_limit))
) where concurrency_key is not null or concurrency_limit is not null;
-- After the rules: a key of 10 MB is then refused by its rule, and not by the size of an index entry.
create index run_keyed on scheduler.run (app, queue, concurrency_key, priority, executor, run_at, id)
    where concurrency_key is not null;
create index run_job on scheduler.run (app, job, scheduled_at) where job is not null;

-- Finds the runs that wait, and refuses a row whose run_at is infinite without being one: only the planner's, which have
-- scheduled_at, may wait until infinity, and none since minus infinity. An index computes its expressions for the rows
-- that it holds and sets nothing up for the others: free, where a check of the table costs each one-row insert 10 µs of 60.
create domain scheduler.run_waiting_at as timestamptz
    constraint run_at_is_finite check (value is not null);
create index run_waiting on scheduler.run (
    app, job, scheduled_at, (cast(case when run_at = 'infinity' then scheduled_at end as scheduler.run_waiting_at))
) where run_at in ('infinity', '-infinity');

create sequence scheduler.lease_id;  -- never cached: a later lease must have the greater id, it is the fencing token

create table scheduler.lease (
    app        text            not null,
    id         bigint          not null default nextval('scheduler.lease_id'),
    worker     bigint          not null,
    queue      text            not null,
    claimed_at timestamptz     not null,
    begun_at   timestamptz,                -- null: prefetched; none of its runs was started
    size       integer         not null,   -- how many runs it was claimed with
    jobs       text[],                     -- the jobs its runs belong to; null: none does
    keyed      boolean         not null default false,  -- a run in it has a unique key
    limited    boolean         not null default false,  -- somebody may wait for the end of a run in it: for the slot of its key, or of its queue
    done       bigint[],                   -- runs that ended; the others are open
    cancel     bigint[],                   -- runs whose cancellation was asked for
    runs       scheduler.run[] not null,
    constraint lease_pkey primary key (app, id)
) with (fillfactor = 70);

-- Out of line, so that finishing in parts rewrites the small columns only; and compressed, since runs are alike:
-- uncompressed (storage external) a claim wrote 450 bytes of WAL a run instead of 290, for 0.2 us of 3.5 less.
create index lease_worker on scheduler.lease (worker);

create table scheduler.run_key (
    app        text   not null,
    unique_key text   not null,
    run_id     bigint not null,
    constraint run_key_pkey primary key (app, unique_key)
);

-- One row for each claimed run that has a concurrency key, written by the claim, and deleted by what strikes the run off
-- its lease. Nothing is counted up and down, so nothing can drift: the slots taken of a key are its rows here.
create table scheduler.slot (
    app             text   not null,
    lease           bigint not null,
    run_id          bigint not null,
    concurrency_key text   not null,
    constraint slot_pkey primary key (app, lease, run_id)
);
create index slot_key on scheduler.slot (app, concurrency_key);

-- What an operator allows a queue. The slots taken of a queue are what its leases hold: they need no rows of their own.
create table scheduler.queue_limit (
    app               text        not null,
    queue             text        not null,
    concurrency_limit integer,                              -- runs held at once; null: any number
    rate_limit        integer,                              -- the size of a bucket of tokens, of which each run takes one …
    rate_interval     interval    not null default '1 second', -- … and which fills itself within this time
    full_at           timestamptz not null default '-infinity', -- when it will be full again; moved by claims
    constraint queue_limit_pkey primary key (app, queue),
    constraint app_is_1_to_100_characters check (length(app) between 1 and 100),
    constraint queue_is_1_to_100_characters check (length(queue) between 1 and 100),
    constraint concurrency_limit_is_not_negative check (concurrency_limit >= 0),
    constraint rate_limit_is_at_least_1 check (rate_limit >= 1),
    constraint rate_interval_is_positive check (rate_interval > interval '0')
) with (fillfactor = 70);
