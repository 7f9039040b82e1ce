-- So many of them (the last parameter) count their periods from the same second.
insert into scheduler.job (app, name, schedule, executor, spec, starts_at)
select $1, 'job ' || n, $2, 'python', '{"task": "bench_async", "args": {"note": "xxxxxxxxxx"}}',
    to_timestamp($5::float8 + n / $6::integer)
from generate_series($3::integer, $3::integer + $4::integer - 1) n
