"""The rest of a coroutine that was begun by hand is as if it had been awaited from the start."""

from __future__ import annotations

import asyncio

import pytest

from worker.steps import Rest


async def test_the_rest_goes_on_with_what_was_waited_for() -> None:
    async def steps() -> str:
        first = await asyncio.sleep(0, "a")
        await asyncio.sleep(0.001)
        async with asyncio.timeout(10):
            second = await asyncio.to_thread(str.upper, "b")
        return first + second

    begun = steps()
    assert await Rest(begun, begun.send(None)) == "aB"


async def test_an_error_of_the_rest_is_raised() -> None:
    async def steps() -> None:
        await asyncio.sleep(0)
        raise ValueError("boom")

    begun = steps()
    with pytest.raises(ValueError, match="boom"):
        await Rest(begun, begun.send(None))


async def test_a_cancel_is_meant_for_the_coroutine() -> None:
    seen: list[str] = []

    async def steps() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(0)
        return "cleaned up"

    async def all_of_it() -> str:
        begun = steps()
        return await Rest(begun, begun.send(None))

    task = asyncio.create_task(all_of_it())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "cleaned up"
    assert seen == ["cancelled"]
