"""Builds the `Call` that an executor gets, and keeps what it logs."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from worker.context import Call

RUN_AT = datetime(2026, 3, 1, 4, 5, 6, tzinfo=UTC)


class Log(list[tuple[str, str]]):
    """What a call logged, as (stream, text)."""

    def __call__(self, app: str, run_id: int, attempt: int, stream: str, text: str) -> None:
        self.append((stream, text))

    def of(self, stream: str) -> str:
        return "".join(text for name, text in self if name == stream)


def call(spec: Any, **changed: Any) -> Call:
    """Run 7, attempt 2, fence 42 of app `shop`, with an hour to go."""
    made = Call(
        app="shop",
        run_id=7,
        attempt=2,
        scheduled=None,
        run=RUN_AT.timestamp(),
        ends=time.time() + 3600,
        fence=42,
        timeout=3600.0,
        spec=spec,
        queue="default",
        job=None,
        isolate=False,
        write=Log(),
    )
    return replace(made, **changed)
