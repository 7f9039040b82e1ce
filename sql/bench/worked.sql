-- How many runs a worker ended, and in how many seconds.
select count(*), extract(epoch from max(h.finished_at) - min(h.started_at))::float8
from scheduler.history h
where h.app = $1 and h.worker = $2
