select exists (select from scheduler.lease l where l.app = $1), extract(epoch from clock_timestamp())::float8
