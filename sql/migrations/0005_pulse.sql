-- What a worker fires from a timer of its own: a job whose period is so short that a row for each instant would cost more
-- than what it does. The job itself is leased; its lease's id is the fence of all its fires, from the sequence of leases.
-- No foreign key to job: the row of one that was removed stays until its holder has let go.

create table scheduler.pulse (
    app         text          not null,
    job         text          not null,
    revision    bigint,                            -- of the definition it was planned from; null: it is to be fired no more
    period      interval      not null,
    from_end    boolean       not null,            -- @after: the period counts from the end of the fire before
    anchor_at   timestamptz   not null,            -- the first instant, and what the others count from
    after_at    timestamptz,                       -- dealt with up to here: an instant, or of @after the end of its fire
    gap         text,                              -- why nobody knows what became of the instants after that
    lost        smallint      not null default 0,  -- times in a row that its holder was lost without having reported any
    worker      bigint,                            -- who fires it; null: it waits for a worker
    lease       bigint,                            -- the fence
    taken_at    timestamptz,
    reported_at timestamptz,                       -- of this lease, what was fired until here is in history
    revoked_at  timestamptz,                       -- set: the definition changed, its holder has to let go
    run_id      bigint,                            -- under which history will have what is fired now
    run         scheduler.run,                     -- what is fired: the row of run that it would be
    constraint pulse_pkey primary key (app, job),
    constraint period_is_positive check (period > interval '0'),
    constraint a_lease_has_a_worker check ((worker is null) = (lease is null)),
    constraint without_a_worker_it_waits_for_one check (worker is not null or (revision is not null and revoked_at is null))
) with (fillfactor = 50);

-- A report changes none of their columns, so it is a HOT update.
create index pulse_waiting on scheduler.pulse (app, job) where worker is null;
create index pulse_worker on scheduler.pulse (worker, app, job) where worker is not null;
