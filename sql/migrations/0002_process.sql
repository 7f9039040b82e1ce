-- Who is alive: one row per process start, so that a restarted process never makes dead work look alive.
-- These two tables do not belong to an app; a distributed database would keep them whole on every node.
-- seen_at is not indexed and the pages have room: a heartbeat is a HOT update (0 % of them were with an index on it).

create table scheduler.server (
    id         bigint      not null generated always as identity,
    label      text        not null,       -- what people call it; never used to tell processes apart
    host       text        not null,
    pid        integer     not null,
    address    text,                       -- where clients reach it
    version    text        not null,
    started_at timestamptz not null,
    seen_at    timestamptz not null,
    stopped_at timestamptz,                -- it said good-bye
    dead_at    timestamptz,                -- it was declared dead
    clock_ahead double precision,          -- seconds that its machine's clock is ahead of the database's, as it said last
    constraint server_pkey primary key (id)
) with (fillfactor = 70);

create table scheduler.worker (
    id          bigint      not null generated always as identity,
    label       text        not null,
    host        text        not null,
    pid         integer     not null,
    apps        text[],                    -- null: every app it finds
    queues      text[],                    -- null: every queue it finds
    executors   text[]      not null,
    concurrency integer     not null,
    version     text        not null,
    started_at  timestamptz not null,
    seen_at     timestamptz not null,
    stopped_at  timestamptz,
    dead_at     timestamptz,
    clock_ahead double precision,          -- as of a server
    constraint worker_pkey primary key (id)
) with (fillfactor = 70);

-- Those who are there, among all who ever were: a look for the silent read 20,000 rows to find 40, every second. The
-- columns change once in a life, so heartbeats stay HOT.
create index server_alive on scheduler.server (id) where dead_at is null and stopped_at is null;
create index worker_alive on scheduler.worker (id) where dead_at is null and stopped_at is null;

create sequence scheduler.epoch;  -- never cached: a later owner must have the greater epoch, of whatever app

-- Which server plans which app: a row for each app that has jobs. Only assign_apps and weigh_apps write it. Whoever
-- defines the first job of an app does not: two such transactions would wait for each other, and in two orders for ever.
-- Nor has it anything to do with `app`: a plan looks its row and keeps it, and would wait for who pauses the app in a
-- transaction that stays open, and every other app of that server with it.
create table scheduler.owner (
    app    text   not null,
    server bigint not null default 0,  -- 0, or one that is not alive: nobody yet
    epoch  bigint,                     -- of this ownership
    weight bigint not null,            -- 1, its jobs, and the runs that were planned for it lately
    constraint owner_pkey primary key (app),
    constraint weight_is_positive check (weight > 0)
);

-- With the app, so that one row is read whichever index is taken: a plan without statistics took the server alone, and to
-- move 1,000 apps read 1,000,000 rows.
create index owner_server on scheduler.owner (server, app);
