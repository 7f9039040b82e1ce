select count(*) from scheduler.run
