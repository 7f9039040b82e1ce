-- Jobs that fired by the ledger, jobs that ran by the history, and how many of either did so more than once.
select count(*) filter (where b.fires > 0), count(*) filter (where b.runs > 0),
    count(*) filter (where b.fires > 1 or b.runs > 1)
from (
    select j.name,
        (select count(*) from scheduler.fire f where f.app = j.app and f.job = j.name and f.outcome = 'planned') as fires,
        (select count(*) from scheduler.history h where h.app = j.app and h.job = j.name) as runs
    from scheduler.job j
    where j.app = $1
) b
