select (select count(*) from scheduler.server s where s.dead_at is null and s.stopped_at is null),
    (select count(*) from scheduler.worker w where w.dead_at is null and w.stopped_at is null)
