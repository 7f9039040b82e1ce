select f.job, extract(epoch from f.scheduled_at)::float8, f.outcome, f.reason, f.run_id from scheduler.fire f
