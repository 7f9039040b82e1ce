select scheduler.finish($1, $2, $3)
