-- Workers that serve whatever app they find: they would take the benchmark's runs for theirs.
select w.label, w.host from scheduler.worker w
where w.apps is null and w.stopped_at is null and w.dead_at is null
    and w.seen_at > scheduler.clock() - interval '10 seconds'
limit 1
