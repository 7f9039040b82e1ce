select extract(epoch from h.started_at - h.scheduled_at)::float8
from scheduler.history h
where h.app = $1 and h.scheduled_at >= to_timestamp($2::float8) and h.scheduled_at < to_timestamp($3::float8)
    and h.started_at is not null
