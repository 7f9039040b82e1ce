-- What is left, and the number of the last lease: it grows as long as something is claimed.
select (select count(*) from scheduler.run),
    (select coalesce(sum(l.size - cardinality(coalesce(l.done, '{}'))), 0) from scheduler.lease l),
    (select count(*) from scheduler.job_schedule s where s.next_at <= scheduler.clock() + interval '10 seconds'),
    (select s.last_value from scheduler.lease_id s)
