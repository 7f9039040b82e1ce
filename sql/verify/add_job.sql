-- Every instant has to become a run of its own, however late, so that each can be asked for.
insert into scheduler.job (
    app, name, schedule, executor, spec, overlap, misfire, misfire_limit, max_attempts, retry_delay, starts_at, ends_at
) values (
    $1, $2, $3, 'python', $4::jsonb, 'allow', 'all', 10000, $5::smallint, '0', to_timestamp($6::float8), to_timestamp($7::float8)
)
