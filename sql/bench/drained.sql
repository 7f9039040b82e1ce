select extract(epoch from min(h.started_at))::float8, count(*) filter (where h.outcome = 'succeeded')
from scheduler.history h
where h.app = $1
