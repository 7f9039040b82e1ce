-- Runs that stamp their number, each so many seconds after the one before.
insert into scheduler.run (app, executor, spec, run_at)
select $1, 'python', jsonb_build_object('task', 'bench_stamp', 'args', jsonb_build_object('number', n)),
    to_timestamp($3::float8 + n * $4::float8)
from generate_series(0, $2::integer - 1) n
