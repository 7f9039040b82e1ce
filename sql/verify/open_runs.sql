select r.id, coalesce(r.unique_key, r.job), extract(epoch from r.scheduled_at)::float8, 'pending' from scheduler.run r
union all
select r.id, coalesce(r.unique_key, r.job), extract(epoch from r.scheduled_at)::float8, 'held by worker ' || l.worker
from scheduler.lease l cross join lateral unnest(l.runs) r
where r.id <> all (coalesce(l.done, '{}'))
