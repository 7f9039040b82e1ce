select scheduler.finish($1, $2::bigint, $3::bigint, $4::bigint[])
