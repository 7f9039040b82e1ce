"""All that the API offers: one module for each thing that requests are about."""

from __future__ import annotations

from scheduler.api.operation import Operation
from scheduler.api.routes import (
    alarms,
    apps,
    audit,
    channels,
    doctor,
    enqueue,
    forecast,
    health,
    job_actions,
    jobs,
    logs,
    metrics,
    processes,
    queues,
    run_lists,
    ticks,
    tokens,
    work,
)
from scheduler.api.routes.docs import describing

_OPERATIONS: tuple[Operation, ...] = (
    *health.OPERATIONS,
    *apps.OPERATIONS,
    *queues.OPERATIONS,
    *jobs.OPERATIONS,
    *job_actions.OPERATIONS,
    *enqueue.OPERATIONS,
    *run_lists.OPERATIONS,
    *logs.OPERATIONS,
    *alarms.OPERATIONS,
    *forecast.OPERATIONS,
    *processes.OPERATIONS,
    *doctor.OPERATIONS,
    *metrics.OPERATIONS,
    *tokens.OPERATIONS,
    *audit.OPERATIONS,
    *work.OPERATIONS,
    *ticks.OPERATIONS,
    *channels.OPERATIONS,
)
OPERATIONS = (*_OPERATIONS, *describing(_OPERATIONS))
