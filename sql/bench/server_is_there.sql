select exists (select from scheduler.server s where s.label = $1 and s.stopped_at is null and s.dead_at is null)
