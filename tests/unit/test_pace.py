"""Requests of one token are let through so many times a second."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from scheduler.api.pace import Pace
from scheduler.api.problem import Problem


@pytest.fixture
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pace's clock stands, so that nothing depends on how quickly the requests come."""
    now = time.monotonic()
    monkeypatch.setattr("scheduler.api.pace.time", SimpleNamespace(monotonic=lambda: now))


@pytest.mark.usefixtures("_still")
async def test_what_comes_too_fast_waits_and_what_would_wait_too_long_is_refused() -> None:
    pace = Pace(100)
    started = time.monotonic()
    ended = await asyncio.gather(*(pace.keep("a") for _ in range(250)), return_exceptions=True)
    refused = [one for one in ended if isinstance(one, Problem)]
    assert 0.9 <= time.monotonic() - started < 10
    # A second's worth that was not used, a second's worth that waits, and no more.
    assert 45 <= len(refused) <= 50
    assert {one.body.status for one in refused} == {429}
    assert refused[0].headers == {"Retry-After": "1"} or refused[0].headers == {"Retry-After": "2"}


@pytest.mark.usefixtures("_still")
async def test_one_token_is_not_held_up_by_another() -> None:
    pace = Pace(1)
    await pace.keep("a")
    await pace.keep("a")
    async with asyncio.timeout(10):
        await pace.keep("b")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await pace.keep("a")


async def test_without_a_rate_nobody_waits() -> None:
    pace = Pace(0)
    async with asyncio.timeout(5):
        for _ in range(10_000):
            await pace.keep("a")
