"""`python -m tests.bench.peers measure`, then `… report`; `make bench-peers` does both."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from tests.bench.peers import cache, machine, servers
from tests.bench.peers.catalogue import chosen
from tests.bench.peers.chart import chart
from tests.bench.peers.measure import Bench
from tests.bench.peers.report import report
from tests.bench.peers.results import Results

HOME = Path(__file__).parents[1]
FILE = click.option("--file", type=click.Path(path_type=Path), help="What was measured; default: in the cache folder.")


@click.group()
def main() -> None:
    """Measure Walclock beside its peers."""


@main.command()
@click.option("--peers", default="", help="Names, in one word list; default: all.")
@click.option("--size", type=click.Choice(["small", "full"]), default="full", show_default=True)
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="Of the main peers.")
@click.option("--anew", is_flag=True, help="Forget what the file holds; else it is added to.")
@FILE
def measure(peers: str, size: str, repeat: int, file: Path | None, *, anew: bool) -> None:
    """Prepare, start the servers, measure, stop the servers."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the servers are stopped
    try:
        selected = chosen(peers)
    except KeyError as unknown:
        raise click.UsageError(f"there is no peer {unknown}") from None
    file = file or default_file()
    results = Results() if anew or not file.exists() else Results.read(file)
    with ExitStack() as stack:
        stack.enter_context(cache.alone())
        cache.prepare(selected)
        postgres = stack.enter_context(servers.postgres())
        redis = stack.enter_context(servers.redis()) if any(peer.on_redis for peer in selected) else None
        results.date = f"{datetime.now(UTC):%Y-%m-%d}"
        results.size = size
        results.commands.append(_command(peers, size, repeat, whole=anew))
        results.machine |= machine.described(postgres)
        results.versions |= cache.versions(selected)
        results.settings |= {peer.name: peer.settings for peer in selected}
        for repetition in range(repeat):
            for peer in selected:
                if repetition == 0 or peer.is_main:
                    log = cache.folder() / f"{peer.name}.log"
                    log.unlink(missing_ok=True)
                    one(Bench(peer, peer.size.small() if size == "small" else peer.size, postgres, redis, log), results)
                    results.write(file)


def one(bench: Bench, results: Results) -> None:
    """All measures of one peer, once. What fails is kept as a failure, so that a run of an hour ends."""
    for name in bench.peer.measures:
        try:
            numbers: dict[str, Any] = {**bench.run(name)}
        except Exception as error:  # noqa: BLE001
            numbers = {"error": f"{type(error).__name__}: {error}"}
        results.add(bench.peer.name, name, numbers)
        click.echo(f"{bench.peer.name:17}{name:9}{_worded(numbers)}")


@main.command(name="report")
@click.option("--to", type=click.Path(path_type=Path), help="The folder; default: here for a full run, else the cache.")
@FILE
def write_report(to: Path | None, file: Path | None) -> None:
    """Write RESULTS.md, results.json and peers.svg."""
    results = Results.read(file or default_file())
    folder = to or (HOME if results.size == "full" else cache.folder())
    results.write(folder / "results.json")
    (folder / "RESULTS.md").write_text(report(results))
    (folder / "peers.svg").write_text(chart(results))
    click.echo(f"written to {folder}: RESULTS.md, results.json, peers.svg")


def _command(peers: str, size: str, repeat: int, *, whole: bool) -> str:
    """How to have the same again."""
    if not whole:
        return f'python -m tests.bench.peers measure --peers "{peers}" --size {size} --repeat {repeat}'
    return f"make bench-peers SIZE={size} REPEAT={repeat}" + (f' PEERS="{peers}"' if peers else "")


def default_file() -> Path:
    return cache.folder() / "results.json"


def _worded(numbers: dict[str, Any]) -> str:
    if "error" in numbers:
        return f"FAILED  {str(numbers['error'])[-300:]}"
    shown = ("rate", "bulk", "p50", "p95", "p99", "resident")
    return "  ".join(f"{name} {numbers[name]:,.2f}" for name in shown if name in numbers)


if __name__ == "__main__":
    main()
