insert into scheduler.run (app, queue, executor, spec, max_attempts, unique_key)
values ($1, 'straggler', 'python', $2::jsonb, $3::smallint, $4)
