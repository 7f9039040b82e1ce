"""What a process is made of: each part is started, and told by two events to end, and to end now.

The one place where the scheduler knows the worker: `run` has both in one process.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import click

from scheduler.cli import demo as demonstration
from scheduler.cli.session import Place
from scheduler.config import Settings
from scheduler.loop import Loop
from scheduler.systemd import Notifier, Service

if TYPE_CHECKING:
    from scheduler.metrics.exposition import Exposition
    from scheduler.service import Server
    from worker.service import Worker

Part = Callable[[asyncio.Event, asyncio.Event], Awaitable[None]]


def server(
    place: Place,
    settings: Settings,
    label: str,
    address: str | None,
    *,
    listen_dsn: str | None,
    exposition: Exposition | None,
) -> Server:
    from scheduler.service import Server  # noqa: PLC0415  20 ms that other commands save

    gauges = exposition is not None
    server = Server(place.dsn, settings, label=label, address=address, listen_dsn=listen_dsn, gauges=gauges)
    if exposition is not None:
        exposition.add(server.samples)
    return server


def exposition() -> Exposition:
    from scheduler.metrics.exposition import Exposition  # noqa: PLC0415  40 ms that other commands save

    return Exposition()


def endpoint(scraped: tuple[str, int], exposition: Exposition, *, is_open: bool) -> Part:
    from scheduler.metrics.endpoint import Endpoint, token_from_environment  # noqa: PLC0415  as above

    return Endpoint(*scraped, exposition, token=token_from_environment(), is_open=is_open).run


def api(
    place: Place,
    settings: Settings,
    server: Server,
    bind: tuple[str, int],
    *,
    listen_dsn: str | None,
    exposition: Exposition | None,
    is_open: bool,
) -> Part:
    from scheduler.api.service import Api  # noqa: PLC0415  an extra, and 150 ms

    def announce(token: str) -> None:
        click.echo(f"the first token, with the scope admin, shown this once: {token}")

    return Api(
        place.dsn,
        settings,
        label=server.label,
        host=bind[0],
        port=bind[1],
        is_open=is_open,
        listen_dsn=listen_dsn,
        announce=announce,
        complaint=server.complaint,
        exposition=exposition,
    ).run


def worker(
    place: Place,
    settings: Settings,
    label: str | None,
    executors: Sequence[str],
    queues: dict[str, int | None] | None,
    *,
    apps: Sequence[str],
    modules: Sequence[str],
    concurrency: int,
    listen_dsn: str | None,
    exposition: Exposition | None,
) -> Worker:
    from worker.service import Worker  # noqa: PLC0415  the one import of the worker

    worker = Worker(
        place.dsn,
        settings,
        label=label or socket.gethostname(),
        apps=list(apps) or None,
        queues=queues,
        executors=list(executors),
        concurrency=concurrency,
        modules=list(modules),
        listen_dsn=listen_dsn,
        counts=exposition is not None,
    )
    if exposition is not None:
        exposition.add(worker.samples)
    return worker


def notifying(services: Sequence[Service]) -> list[Part]:
    """The part that talks to systemd, where this process was started by it."""
    notifier = Notifier.from_env(os.environ)
    if notifier is None:
        return []

    async def run(stopping: asyncio.Event, _: asyncio.Event) -> None:
        await notifier.run(services, stopping)

    return [run]


def demo(place: Place, settings: Settings) -> Part:
    async def run(stopping: asyncio.Event, _: asyncio.Event) -> None:
        demo = demonstration.Demo(place.dsn, settings)
        looking = asyncio.create_task(Loop("demo", demo.run_once, floor=settings.poll).run())
        await stopping.wait()
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await demo.close()

    return run
