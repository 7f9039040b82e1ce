"""The pool of threads: limits, order, who is woken, and that nothing of one function reaches another."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial

import pytest
import uvloop

from worker.threads import Threads

SETTING: ContextVar[str] = ContextVar("SETTING", default="untouched")


async def test_stuck_threads_take_no_place_from_others() -> None:
    threads = Threads(2)
    release, begun = threading.Event(), threading.Semaphore(0)

    def stuck() -> None:
        begun.release()
        release.wait()

    hung = [asyncio.ensure_future(threads.call(stuck)) for _ in range(2)]
    for _ in hung:
        await asyncio.to_thread(begun.acquire)
    queued = asyncio.ensure_future(threads.call(lambda: "served"))
    for each in hung:
        each.cancel()
    assert await asyncio.wait_for(queued, 10) == "served"
    release.set()
    threads.close()


async def test_a_call_cancelled_while_it_waits_for_a_thread_never_begins() -> None:
    threads = Threads(1)
    release, ran = threading.Event(), threading.Event()
    first = asyncio.ensure_future(threads.call(release.wait))
    second = asyncio.ensure_future(threads.call(ran.set))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    release.set()
    await first
    assert await threads.call(lambda: "next") == "next"
    assert not ran.is_set()
    threads.close()


async def test_functions_begin_in_the_order_of_their_calls() -> None:
    threads = Threads(1)
    order: list[int] = []
    await asyncio.gather(*(threads.call(partial(order.append, n)) for n in range(200)))
    assert order == list(range(200))
    threads.close()


async def test_there_are_never_more_at_a_time_than_the_limit() -> None:
    threads = Threads(3)
    together, lock = threading.Barrier(3), threading.Lock()  # the barrier opens to three at a time
    running = most = 0

    def counted() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(30)
        with lock:
            running -= 1

    await asyncio.gather(*(threads.call(counted) for _ in range(300)))
    assert most == 3
    threads.close()


async def test_functions_that_block_get_as_many_threads_as_the_limit() -> None:
    """Each waits for all the others: a thread too few and none would ever end."""
    threads = Threads(50)
    together = threading.Barrier(50)
    async with asyncio.timeout(30):
        await asyncio.gather(*(threads.call(together.wait) for _ in range(50)))
        await asyncio.gather(*(threads.call(together.wait) for _ in range(50)))  # and so when the threads were asleep
    threads.close()


async def test_a_function_that_blocks_does_not_hold_up_the_result_of_another() -> None:
    threads = Threads(1)
    release = threading.Event()
    first = asyncio.ensure_future(threads.call(lambda: "done"))
    second = asyncio.ensure_future(threads.call(release.wait))
    assert await asyncio.wait_for(first, 10) == "done"
    assert not second.done()
    release.set()
    await second
    threads.close()


async def test_short_functions_make_do_with_few_threads() -> None:
    """Woken one after the other, and only while something still waits: no crowd around the interpreter's lock."""
    threads = Threads(500)
    for _ in range(5):
        await asyncio.gather(*(threads.call(nothing) for _ in range(500)))
    assert threads._threads < 250  # some ten, if nothing else is going on
    threads.close()


@pytest.mark.parametrize("limit", [1, 8])
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_every_call_is_answered_while_others_are_cancelled(
    limit: int, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def main() -> None:
        threads = Threads(limit)

        async def ask(number: int) -> None:
            assert await threads.call(partial(str, number)) == str(number)

        for _ in range(30):
            calls = [asyncio.ensure_future(ask(n)) for n in range(300)]
            await asyncio.sleep(0)
            for each in calls[::7]:
                each.cancel()
            done, waiting = await asyncio.wait(calls, timeout=30)
            assert not waiting
            assert all(each.cancelled() or each.exception() is None for each in done)
            assert not any(each.cancelled() for n, each in enumerate(calls) if n % 7)
        threads.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


async def test_what_a_function_sets_in_its_context_does_not_reach_the_next_on_its_thread() -> None:
    threads = Threads(1)

    def leave() -> tuple[str, int]:
        before = SETTING.get()
        SETTING.set("mine")
        return before, threading.get_ident()

    (first, thread), (second, same) = await threads.call(leave), await threads.call(leave)
    assert (first, second) == ("untouched", "untouched")
    assert thread == same
    assert SETTING.get() == "untouched"
    threads.close()


async def test_a_function_sees_the_context_it_was_called_from() -> None:
    threads = Threads(1)
    token = SETTING.set("the caller's")
    try:
        assert await threads.call(SETTING.get) == "the caller's"
    finally:
        SETTING.reset(token)
    threads.close()


async def test_an_idle_thread_keeps_no_result_alive() -> None:
    class Large:
        pass

    threads = Threads(1)
    result = await threads.call(Large)
    gone = weakref.ref(result)
    del result
    for _ in range(1000):
        if gone() is None:
            break
        await asyncio.sleep(0.01)
    assert gone() is None
    threads.close()


async def test_without_any_thread_calls_fail_and_later_ones_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = Threads(2)
    ran = threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await asyncio.wait_for(threads.call(ran.set), 10)
    assert await asyncio.wait_for(threads.call(lambda: "served"), 10) == "served"
    assert not ran.is_set()
    threads.close()


async def test_threads_that_are_there_do_what_no_more_can_be_started_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = Threads(20)
    await threads.call(nothing)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        calls = [threads.call(threading.Event().is_set) for _ in range(50)]
        assert await asyncio.wait_for(asyncio.gather(*calls), 10) == [False] * 50
    threads.close()


async def test_closing_ends_the_idle_threads() -> None:
    threads = Threads(4)
    others = set(threading.enumerate())  # not their idents, which are given again once they end
    meet = threading.Barrier(4)
    await asyncio.gather(*(threads.call(meet.wait) for _ in range(4)))
    ours = [thread for thread in threading.enumerate() if thread not in others]
    assert len(ours) == 4
    threads.close()
    for thread in ours:
        await asyncio.to_thread(thread.join, 10)
    assert not any(thread.is_alive() for thread in ours)


def nothing() -> None:
    pass
