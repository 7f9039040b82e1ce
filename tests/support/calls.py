"""Builds the `Call` that an executor gets, and keeps what it logs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from worker.context import Call

RUN_AT = datetime(2026, 3, 1, 4, 5, 6, tzinfo=UTC)


class Log(list[tuple[str, str]]):
    """What a call logged, as (stream, text)."""

    def __call__(self, stream: str, text: str) -> None:
        self.append((stream, text))

    def of(self, stream: str) -> str:
        return "".join(text for name, text in self if name == stream)


def call(spec: Any, **changed: Any) -> Call:
    """Run 7, attempt 2, fence 42 of app `shop`, with an hour to go."""
    made = Call(
        app="shop",
        run_id=7,
        attempt=2,
        scheduled_at=None,
        run_at=RUN_AT,
        fence=42,
        deadline=datetime.now(UTC) + timedelta(hours=1),
        timeout=3600.0,
        spec=spec,
        queue="default",
        job=None,
        isolate=False,
        log=Log(),
    )
    return replace(made, **changed)
