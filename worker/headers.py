"""What an effect carries of its run, in HTTP requests and in Kafka messages alike."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from worker.context import Call


def told(call: Call, given: Mapping[str, str]) -> dict[str, Any]:
    """The spec's headers and ours. A spec cannot claim another fence; a trace that it continues is its own."""
    ours = {
        "Scheduler-Run-Id": str(call.run_id),
        "Scheduler-Attempt": str(call.attempt),
        "Scheduler-Scheduled-At": call.instant(),
        "Scheduler-Fence": str(call.fence),
    }
    if not given:
        return {**ours, "traceparent": traceparent(call)}
    taken = {name.lower() for name in ours}
    theirs = {name: value for name, value in given.items() if name.lower() not in taken}
    if "traceparent" not in {name.lower() for name in theirs}:
        ours["traceparent"] = traceparent(call)
    return {**theirs, **ours}


def traceparent(call: Call) -> str:
    """The attempt's, or the head of a new trace. Its numbers have to be unlike, not secret: the kernel's cost 2 us."""
    return call.traceparent or f"00-{random.getrandbits(128):032x}-{random.getrandbits(64):016x}-01"
