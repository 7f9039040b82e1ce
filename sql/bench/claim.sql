-- As a worker claims: all columns, and the specs as text.
select c.lease, c.id, c.executor, c.spec::text, c.attempt, extract(epoch from c.run_at)::float8,
    extract(epoch from c.scheduled_at)::float8, c.job, extract(epoch from c.timeout)::float8, c.max_attempts, c.lost
from scheduler.claim($1, $2, 'default', $3, '{python}', '0', true) c
