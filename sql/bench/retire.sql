select scheduler.retire_worker($1)
