copy scheduler.run (app, executor, spec) from stdin
