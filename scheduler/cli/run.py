"""The services: `run`, a server with a worker in one process, and `worker`.

The one place where the scheduler knows the worker: both are composed here, under one pair of signals. The first TERM or
INT drains, a second one ends the draining.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from scheduler import __version__, db, records, telemetry
from scheduler.cli import demo as demonstration
from scheduler.cli.inputs import Bind, QueueSlots
from scheduler.cli.session import Connection, Place, located, named, prepare
from scheduler.config import Settings, redact, resolve_listen_dsn
from scheduler.errors import MissingExtraError
from scheduler.loop import Loop
from scheduler.loopback import is_loopback
from scheduler.systemd import Notifier, Service

if TYPE_CHECKING:
    from scheduler.metrics.exposition import Exposition
    from scheduler.service import Server
    from worker.service import Worker

log = logging.getLogger(__name__)

Part = Callable[[asyncio.Event, asyncio.Event], Awaitable[None]]
_EMBEDDED = ("python", "shell", "http", "sql", "kafka", "sidekiq", "alarm")
_ELSEWHERE = ("python", "http", "alarm")  # what a database of other people may ask of this machine unless told
_NEEDS = {  # executor to the module that it needs, and the extra that brings it
    "http": ("aiohttp", "http"),
    "alarm": ("aiohttp", "http"),
    "kafka": ("confluent_kafka", "kafka"),
    "sidekiq": ("redis", "redis"),
}
# Executors that can do nothing before they know where the other system is: offered unasked only where that is said.
_SAID = {"kafka": "SCHEDULER_KAFKA_BROKERS", "sidekiq": "SCHEDULER_REDIS_URL"}


class Variadic(click.Command):
    """`--app a b` as `--app a --app b`: an option that may be repeated takes all words up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        lists = {name for param in self.params if getattr(param, "multiple", False) for name in param.opts}
        spread: list[str] = []
        for word in args:
            if spread and not word.startswith("-") and len(spread) > 1 and spread[-2] in lists:
                spread += [spread[-2], word]
            else:
                spread.append(word)
        return super().parse_args(ctx, spread)


def _services(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `run` and `worker` share."""
    for option in (
        click.option(
            "--name", "label", metavar="LABEL", help="What people call this process; default: the host's name."
        ),
        click.option(
            "--listen-dsn",
            metavar="DSN",
            help="PostgreSQL itself, for notifications, where --dsn leads through a pooler; else SCHEDULER_LISTEN_DSN.",
        ),
        click.option("--metrics", "scraped", type=Bind(), help="Serve /metrics for Prometheus there."),
        click.option("--metrics-no-auth", is_flag=True, help="Ask for no token there, whoever reaches it."),
        click.option("--import", "modules", multiple=True, metavar="MODULE…", help="Modules with tasks."),
        click.option("--executors", metavar="A,B", help="What may be run here, by name; default: see above."),
        click.option(
            "--concurrency", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Runs at a time."
        ),
        click.option(
            "--app", "apps", multiple=True, metavar="NAME…", help="Work for these apps; default: all there are."
        ),
    ):
        command = option(command)
    return command


@click.command(cls=Variadic)
@click.option("--no-worker", is_flag=True, help="Plan and reclaim only; execute nothing.")
@click.option("--advertise", metavar="URL", help="Where clients reach this server; shown to who asks who owns an app.")
@click.option("--http", "bind", type=Bind(), help="Serve the HTTP API there.")
@click.option("--http-no-auth", is_flag=True, help="Ask for no tokens; on loopback only.")
@click.option("--demo", is_flag=True, help="Add a job that says hello, and print its runs.")
@_services
def run(
    *,
    no_worker: bool,
    advertise: str | None,
    bind: tuple[str, int] | None,
    http_no_auth: bool,
    demo: bool,
    label: str | None,
    executors: str | None,
    listen_dsn: str | None,
    scraped: tuple[str, int] | None,
    metrics_no_auth: bool,
    **options: Any,
) -> None:
    """Run a server, and with it a worker for every app it finds.

    On the embedded PostgreSQL, whose schema it brings up to date, the executors python, shell, http, sql and alarm are
    offered, and kafka and sidekiq where the environment says where their brokers and their Redis are.
    Elsewhere python, http and alarm, unless --executors says otherwise.
    TERM or Ctrl-C lets what runs end; a second one gives it up.
    """
    _check_bind(bind, http_no_auth)
    _check_metrics(scraped, metrics_no_auth)
    records.start(named())
    settings = Settings.from_env()
    with located() as place:
        names = [] if no_worker else _executors(executors, _EMBEDDED if place.is_embedded else _ELSEWHERE)
        if demo and "shell" not in names:
            raise click.UsageError("--demo needs the executor shell: name it in --executors")
        listen_dsn = _listening(listen_dsn)
        exposition = None if bind is None and scraped is None else _exposition()
        label = label or socket.gethostname()
        server = _server(place, settings, label, advertise, listen_dsn=listen_dsn, exposition=exposition)
        parts: list[Part] = [lambda stopping, _: server.run(stopping)]
        services: list[Service] = [server]
        if not no_worker:
            worker = _worker(
                place, settings, label, names, None, listen_dsn=listen_dsn, exposition=exposition, **options
            )
            services.append(worker)
            parts.append(worker.run)
        if bind is not None:
            parts.append(
                _api(
                    place,
                    settings,
                    server,
                    bind,
                    listen_dsn=listen_dsn,
                    exposition=exposition,
                    is_open=http_no_auth,
                )
            )
        if scraped is not None and exposition is not None:
            parts.append(_endpoint(scraped, exposition, is_open=metrics_no_auth))
        if demo:
            parts.append(_demo(place, settings))

        async def ready(conn: Connection) -> None:
            if demo:
                await demonstration.add(conn)
                demonstration.welcome(place)
            else:
                _greet(place, "a server" if no_worker else f"a server and a worker for {', '.join(names)}")

        _runner(_all(place, [*parts, *_notifying(services)], ready, upgrade=True))


@click.command(cls=Variadic)
@click.option("--queue", "queues", type=QueueSlots(), multiple=True, metavar="NAME[=SLOTS]…", help="Only these queues.")
@_services
def worker(
    *,
    label: str | None,
    executors: str | None,
    queues: Sequence[tuple[str, int | None]],
    listen_dsn: str | None,
    scraped: tuple[str, int] | None,
    metrics_no_auth: bool,
    **options: Any,
) -> None:
    """Run a worker only, for the apps it is given.

    Executors: python, http and alarm unless --executors says otherwise. A queue's SLOTS are how many of its runs are
    executed at a time; without, as many as --concurrency. TERM or Ctrl-C lets what runs end; a second one gives it up.
    """
    if not options["apps"]:
        raise click.UsageError("--app NAME is needed: the apps to work for")
    _check_metrics(scraped, metrics_no_auth)
    records.start(named())
    settings = Settings.from_env()
    with located() as place:
        names = _executors(executors, _ELSEWHERE)
        listen_dsn = _listening(listen_dsn)
        exposition = None if scraped is None else _exposition()
        service = _worker(
            place,
            settings,
            label,
            names,
            dict(queues) or None,
            listen_dsn=listen_dsn,
            exposition=exposition,
            **options,
        )
        parts: list[Part] = [service.run, *_notifying([service])]
        if scraped is not None and exposition is not None:
            parts.append(_endpoint(scraped, exposition, is_open=metrics_no_auth))

        async def ready(_: Connection) -> None:
            _greet(place, f"a worker of {', '.join(options['apps'])} for {', '.join(names)}")

        _runner(_all(place, parts, ready))


def _listening(option: str | None) -> str | None:
    """The listener's DSN. One that cannot be read is refused here: later it would pass for a lost connection."""
    dsn = resolve_listen_dsn(option)
    if dsn is not None:
        db.read_dsn(dsn, name="listener")
    return dsn


def _server(
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


def _check_metrics(scraped: tuple[str, int] | None, is_open: bool) -> None:
    if is_open and scraped is None:
        raise click.UsageError("--metrics-no-auth needs --metrics HOST:PORT")


def _exposition() -> Exposition:
    from scheduler.metrics.exposition import Exposition  # noqa: PLC0415  40 ms that other commands save

    return Exposition()


def _endpoint(scraped: tuple[str, int], exposition: Exposition, *, is_open: bool) -> Part:
    from scheduler.metrics.endpoint import Endpoint, token_from_environment  # noqa: PLC0415  as above

    return Endpoint(*scraped, exposition, token=token_from_environment(), is_open=is_open).run


def _check_bind(bind: tuple[str, int] | None, is_open: bool) -> None:
    if bind is None:
        if is_open:
            raise click.UsageError("--http-no-auth needs --http HOST:PORT")
        return
    if find_spec("uvicorn") is None or find_spec("starlette") is None:
        raise MissingExtraError("--http", "http")
    if is_open and not is_loopback(bind[0]):
        raise click.UsageError(f"--http-no-auth is for loopback only: {bind[0]} may be reached by others")


def _api(
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


def _worker(
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


def _notifying(services: Sequence[Service]) -> list[Part]:
    """The part that talks to systemd, where this process was started by it."""
    notifier = Notifier.from_env(os.environ)
    if notifier is None:
        return []

    async def run(stopping: asyncio.Event, _: asyncio.Event) -> None:
        await notifier.run(services, stopping)

    return [run]


def _demo(place: Place, settings: Settings) -> Part:
    async def run(stopping: asyncio.Event, _: asyncio.Event) -> None:
        demo = demonstration.Demo(place.dsn, settings)
        looking = asyncio.create_task(Loop("demo", demo.run_once, floor=settings.poll).run())
        await stopping.wait()
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await demo.close()

    return run


async def _all(
    place: Place, parts: Sequence[Part], ready: Callable[[Connection], Awaitable[None]], *, upgrade: bool = False
) -> None:
    """Run the parts until the first signal, or until one of them ends; then all of them end in good order.

    `ready` is called before, once the database is known to be usable.
    """
    stopping, forced = asyncio.Event(), asyncio.Event()
    _obey_signals(stopping, forced)
    # An upgrade may take longer than any statement of daily work.
    timeout = 0 if upgrade and place.is_embedded else Settings.from_env().statement_timeout
    async with await db.connect(place.dsn, name="run", statement_timeout=timeout) as conn:
        await prepare(conn, place, upgrade=upgrade)
        await ready(conn)

    async def one(part: Part) -> None:
        try:
            await part(stopping, forced)
        finally:
            stopping.set()

    for ended in await asyncio.gather(*(one(part) for part in parts), return_exceptions=True):
        if isinstance(ended, BaseException):
            raise ended
    log.info("stopped")


def _obey_signals(stopping: asyncio.Event, forced: asyncio.Event) -> None:
    def obey(number: signal.Signals) -> None:
        if stopping.is_set():
            log.info("%s again: what still runs is given up", number.name)
            forced.set()
        else:
            log.info("%s: stopping; what runs may end", number.name)
            stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, obey, number)


def _executors(option: str | None, default: Sequence[str]) -> list[str]:
    """Those asked for, or the default ones that are set up and installed; the worker refuses what it does not have."""
    if option is not None:
        names = list(dict.fromkeys(name.strip() for name in option.split(",") if name.strip()))
        if not names:
            raise click.UsageError("--executors names none: write --executors python,http")
        return names
    meant = [name for name in default if name not in _SAID or os.environ.get(_SAID[name])]
    absent = [name for name in meant if name in _NEEDS and find_spec(_NEEDS[name][0]) is None]
    for name in absent:
        log.warning("without the executor %s: pip install 'walclock[%s]'", name, _NEEDS[name][1])
    return [name for name in meant if name not in absent]


def _traced(runner: asyncio.Runner, work: Coroutine[Any, Any, None]) -> None:
    if (complaint := telemetry.start()) is not None:
        log.warning("%s", complaint)
    try:
        runner.run(work)
    finally:
        telemetry.close()


def _greet(place: Place, what: str) -> None:
    where = f"an embedded PostgreSQL in {place.data_dir}" if place.is_embedded else redact(place.dsn)
    click.echo(f"Walclock {__version__}: {what}, on {where}")


def _runner(work: Coroutine[Any, Any, None]) -> None:
    factory = None
    if find_spec("uvloop") is not None:
        import uvloop  # noqa: PLC0415  an extra

        factory = uvloop.new_event_loop
    # What is there now stays, and of the rest thousands are alive at a time: with the usual threshold of 700 new
    # objects the search for cycles took a fifth of a busy worker's time, 14 us of CPU a run instead of 11.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    with asyncio.Runner(loop_factory=factory) as runner:
        _traced(runner, work)
