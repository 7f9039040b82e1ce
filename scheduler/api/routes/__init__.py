"""All that the API offers: one module for each thing that requests are about."""

from __future__ import annotations

from scheduler.api.operation import Operation
from scheduler.api.routes import apps, enqueue, health, work

OPERATIONS: tuple[Operation, ...] = (*health.OPERATIONS, *apps.OPERATIONS, *enqueue.OPERATIONS, *work.OPERATIONS)
