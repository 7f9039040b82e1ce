-- Each of the runs was taken from the worker, and one of them is being executed by another.
select not exists (select from scheduler.lease l where l.app = $1 and l.worker = $2::bigint)
    and exists (
        select from scheduler.lease l cross join lateral unnest(l.runs) r
        where l.app = $1 and l.begun_at is not null and r.id = any ($3::bigint[]) and r.id <> all (coalesce(l.done, '{}'))
    )
