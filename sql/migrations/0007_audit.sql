-- Who changed what. Each app has a chain: every entry holds the SHA-256 of the entry before it, so that none can be edited,
-- taken out, moved or cut off without a trace. What was changed waits in audit_pending until the commit, where seal()
-- gives it its number and hash; so only committing transactions queue for an app's chain, and each for an instant.

create table scheduler.audit (
    app      text        not null,     -- '': what belongs to no app, like a token for all of them
    n        bigint      not null,     -- 1, 2, 3 … without a gap, in the order of the commits
    at       timestamptz not null,     -- of the commit; never earlier than the entry before
    role     text        not null,     -- session_user: the login, whatever SET ROLE says
    actor    text,                     -- what the session said of itself (scheduler.actor), like the API's 'token NAME'
    action   text        not null,
    object   text        not null,     -- 'job nightly', 'run 17', 'queue mail', 'app', 'token deploy'
    before   json,                     -- what changed, as it was; null: there was nothing. json keeps its text, jsonb
    after    json,                     -- would be written anew by each version, and what is hashed must not change
    previous bytea       not null,     -- the hash of entry n - 1; of the first, 32 zero bytes
    hash     bytea       not null,     -- of audit_line()
    constraint audit_pkey primary key (app, n)
);
create index audit_at on scheduler.audit (at, app, n);
create index audit_object on scheduler.audit (app, object, n);

-- Where each chain ends. Its row lock is what orders the writers of an app; and without it nobody could tell that the
-- last entries were cut off.
create table scheduler.audit_head (
    app  text        not null,
    n    bigint      not null,
    at   timestamptz not null,
    hash bytea       not null,
    constraint audit_head_pkey primary key (app)
) with (fillfactor = 50);

-- What transactions that are open now have changed. Unlogged: no row of it outlives its transaction, so what a crash
-- takes was never committed. Nobody sees a row of somebody else.
create unlogged table scheduler.audit_pending (
    xact   xid8    not null default pg_current_xact_id(),
    id     bigint  not null generated always as identity,
    seals  boolean not null,           -- one row of each statement: it sets off seal()
    app    text    not null,
    role   text    not null default session_user,
    actor  text    default left(nullif(current_setting('scheduler.actor', true), ''), 200),
    action text    not null,
    object text    not null,
    before json,
    after  json,
    constraint audit_pending_pkey primary key (xact, id)
);
