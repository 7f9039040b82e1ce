copy scheduler.run (app, executor, spec, max_attempts, unique_key) from stdin
