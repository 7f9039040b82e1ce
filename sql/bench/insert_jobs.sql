insert into scheduler.job (app, name, schedule, executor, spec)
select $1, 'job ' || n, $2, 'python', '{"task": "bench_async", "args": {"note": "xxxxxxxxxx"}}'
from generate_series($3::integer, $3::integer + $4::integer - 1) n
