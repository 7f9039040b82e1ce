insert into scheduler.run (app, executor, spec, priority, run_at)
select $1, 'python', $2::jsonb, n % 3, scheduler.clock() + make_interval(secs => $4::float8 + n * 0.001)
from generate_series(0, $3::integer - 1) n
