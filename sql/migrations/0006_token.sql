-- Who may use the HTTP API: the tokens, of which only a hash is kept.
-- A token may reach into several apps, so its key does not begin with one.

create table scheduler.token (
    id           bigint      not null generated always as identity,
    name         text        not null,   -- what people call it; a revoked one leaves its name to others
    prefix       text        not null,   -- its first characters, to tell by which one a found text is
    scopes       text[]      not null,
    apps         text[],                 -- null: all
    created_at   timestamptz not null,
    expires_at   timestamptz,            -- null: never
    last_used_at timestamptz,            -- within a minute or so
    revoked_at   timestamptz,
    hash         bytea       not null,   -- SHA-256: it has 256 random bits, so a slow hash would guard nothing more
    constraint token_pkey primary key (id),
    constraint token_hash unique (hash),
    constraint name_is_1_to_100_characters check (length(name) between 1 and 100),
    constraint prefix_is_at_most_12_characters check (length(prefix) <= 12),
    constraint scopes_are_read_write_work_or_admin check (
        cardinality(scopes) > 0 and scopes <@ array['read', 'write', 'work', 'admin']
    ),
    constraint apps_are_named check (cardinality(apps) > 0 and array_position(apps, null) is null),
    constraint hash_has_32_bytes check (length(hash) = 32),
    constraint expires_at_is_finite check (isfinite(expires_at)),
    constraint expires_after_it_was_created check (expires_at > created_at)
) with (fillfactor = 70);

create unique index token_name on scheduler.token (name) where revoked_at is null;
