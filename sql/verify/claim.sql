select c.lease, c.id, c.attempt from scheduler.claim($1, $2::bigint, 'straggler', $3::integer) c
