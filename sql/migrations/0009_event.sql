-- Events: runs with the executor `event`, which no worker takes. They wait in `run` for a client, and end when it deletes
-- them or when their time to live is over. Beside them there is only who has locked one, and until when: the row of the
-- run stays where it is, so an expired lock returns nothing and needs nobody to return it.

create table scheduler.event_lock (
    app        text        not null,
    run_id     bigint      not null,
    fence      bigint      not null,        -- from the sequence of leases: of two locks of one event the later has the greater
    locked_at  timestamptz not null,
    expires_at timestamptz not null,        -- from then on it holds no more, and the next lock takes its place
    constraint event_lock_pkey primary key (app, run_id)
) with (fillfactor = 70);

create index event_lock_expires on scheduler.event_lock (expires_at);
