-- What was answered to requests with an Idempotency-Key, so that one which is sent again is answered alike and does nothing.
-- Written in the transaction of what it did. The row is there from its beginning, without an answer until its end, so
-- that of two equal requests the second waits for the first.

create table scheduler.idempotency (
    app     text        not null,
    token   text        not null,      -- the name of the token: keys of others are others
    key     text        not null,
    kept_at timestamptz not null,
    digest  bytea,                     -- of the body
    status  smallint,
    answer  text,
    constraint idempotency_pkey primary key (app, token, key),
    constraint app_is_1_to_100_characters check (length(app) between 1 and 100),
    constraint key_is_1_to_255_characters check (length(key) between 1 and 255)
) with (fillfactor = 70);

-- For those who delete the old ones.
create index idempotency_kept on scheduler.idempotency (kept_at);
