copy run (app, executor, spec) from stdin
