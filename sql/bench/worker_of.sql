select max(w.id) from scheduler.worker w where $1 = any (w.apps) and w.stopped_at is null
