"""The services: `run`, a server with a worker in one process, and `worker`."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import click

from scheduler import __version__, db, records
from scheduler.cli import composition
from scheduler.cli import demo as demonstration
from scheduler.cli.composition import Part
from scheduler.cli.inputs import Bind, QueueSlots, Variadic
from scheduler.cli.offered import ELSEWHERE, EMBEDDED, offered
from scheduler.cli.running import run_parts
from scheduler.cli.session import Connection, Place, located, named
from scheduler.config import Settings, redact, resolve_listen_dsn
from scheduler.errors import MissingExtraError
from scheduler.loopback import is_loopback
from scheduler.systemd import Service


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
        names = [] if no_worker else offered(executors, EMBEDDED if place.is_embedded else ELSEWHERE)
        if demo and "shell" not in names:
            raise click.UsageError("--demo needs the executor shell: name it in --executors")
        listen_dsn = _listening(listen_dsn)
        exposition = None if bind is None and scraped is None else composition.exposition()
        label = label or socket.gethostname()
        server = composition.server(place, settings, label, advertise, listen_dsn=listen_dsn, exposition=exposition)
        parts: list[Part] = [lambda stopping, _: server.run(stopping)]
        services: list[Service] = [server]
        if not no_worker:
            worker = composition.worker(
                place, settings, label, names, None, listen_dsn=listen_dsn, exposition=exposition, **options
            )
            services.append(worker)
            parts.append(worker.run)
        if bind is not None:
            parts.append(
                composition.api(
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
            parts.append(composition.endpoint(scraped, exposition, is_open=metrics_no_auth))
        if demo:
            parts.append(composition.demo(place, settings))

        async def ready(conn: Connection) -> None:
            if demo:
                await demonstration.add(conn)
                demonstration.welcome(place)
            else:
                _greet(place, "a server" if no_worker else f"a server and a worker for {', '.join(names)}")

        run_parts(place, [*parts, *composition.notifying(services)], ready, upgrade=True)


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
        names = offered(executors, ELSEWHERE)
        listen_dsn = _listening(listen_dsn)
        exposition = None if scraped is None else composition.exposition()
        service = composition.worker(
            place,
            settings,
            label,
            names,
            dict(queues) or None,
            listen_dsn=listen_dsn,
            exposition=exposition,
            **options,
        )
        parts: list[Part] = [service.run, *composition.notifying([service])]
        if scraped is not None and exposition is not None:
            parts.append(composition.endpoint(scraped, exposition, is_open=metrics_no_auth))

        async def ready(_: Connection) -> None:
            _greet(place, f"a worker of {', '.join(options['apps'])} for {', '.join(names)}")

        run_parts(place, parts, ready)


def _listening(option: str | None) -> str | None:
    """The listener's DSN. One that cannot be read is refused here: later it would pass for a lost connection."""
    dsn = resolve_listen_dsn(option)
    if dsn is not None:
        db.read_dsn(dsn, name="listener")
    return dsn


def _check_bind(bind: tuple[str, int] | None, is_open: bool) -> None:
    if bind is None:
        if is_open:
            raise click.UsageError("--http-no-auth needs --http HOST:PORT")
        return
    if find_spec("uvicorn") is None or find_spec("starlette") is None:
        raise MissingExtraError("--http", "http")
    if is_open and not is_loopback(bind[0]):
        raise click.UsageError(f"--http-no-auth is for loopback only: {bind[0]} may be reached by others")


def _check_metrics(scraped: tuple[str, int] | None, is_open: bool) -> None:
    if is_open and scraped is None:
        raise click.UsageError("--metrics-no-auth needs --metrics HOST:PORT")


def _greet(place: Place, what: str) -> None:
    where = f"an embedded PostgreSQL in {place.data_dir}" if place.is_embedded else redact(place.dsn)
    click.echo(f"Walclock {__version__}: {what}, on {where}")
