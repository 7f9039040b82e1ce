select w.id, w.pid, extract(epoch from w.started_at)::float8 from scheduler.worker w
