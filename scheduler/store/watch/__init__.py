"""What people look at: lists by key, a page at a time, and never a count of a large table.

Rows are dicts. An instant is an aware datetime, or its text where Python has none for it (infinity, the year 20000);
a duration is a number of seconds. So one odd row that came by plain SQL cannot spoil a list.

reading       how such a page is read           known         which apps there are
lanes         apps and queues, by what waits    definitions   jobs, with their past and future
processes     servers and workers               executions    runs in every state, their attempts
circumstances what bears on one run             ailments      what may be wrong with a database
following     a run's log as it grows           prospects     jobs as a forecast needs them
"""

from scheduler.store.watch.definitions import job, jobs
from scheduler.store.watch.executions import attempts, finished, run, runs
from scheduler.store.watch.following import EVERY, Following
from scheduler.store.watch.known import known_apps
from scheduler.store.watch.lanes import apps, counted, locate, queues
from scheduler.store.watch.processes import servers, workers
from scheduler.store.watch.prospects import prospects
from scheduler.store.watch.reading import COUNTED, Connection, Row, clock

__all__ = [
    "COUNTED",
    "EVERY",
    "Connection",
    "Following",
    "Row",
    "apps",
    "attempts",
    "clock",
    "counted",
    "finished",
    "job",
    "jobs",
    "known_apps",
    "locate",
    "prospects",
    "queues",
    "run",
    "runs",
    "servers",
    "workers",
]
