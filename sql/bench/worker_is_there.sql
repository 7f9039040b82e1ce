select exists (select from scheduler.worker w where w.label = $1 and w.stopped_at is null and w.dead_at is null)
