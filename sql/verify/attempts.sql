select h.id, h.attempt, h.outcome, h.retry_at is null, extract(epoch from h.finished_at)::float8, h.worker, h.fence, h.error,
    coalesce(h.unique_key, h.job), extract(epoch from h.scheduled_at)::float8, h.max_attempts = 1
from scheduler.history h
