"""All that the API offers: one module for each thing that requests are about."""

from __future__ import annotations

from scheduler.api.operation import Operation
from scheduler.api.routes import apps, channels, health, ticks

OPERATIONS: tuple[Operation, ...] = (
    *health.OPERATIONS,
    *apps.OPERATIONS,
    *ticks.OPERATIONS,
    *channels.OPERATIONS,
)
