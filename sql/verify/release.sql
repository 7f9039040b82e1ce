select scheduler.release($1, $2::bigint, $3::bigint)
