insert into scheduler.run (app, executor, spec) values ($1, 'python', $2)
