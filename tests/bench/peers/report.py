"""RESULTS.md: what a run found, as medians, with what is needed to judge it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.bench.peers.catalogue import PEERS, WALCLOCK, Peer
from tests.bench.peers.results import Results, middle

DRAINS = ("drain 1", "drain 2", "pinned")
NONE = "-"
SMALL = "**A small run: it shows that everything works, and its figures are too short to compare.**\n"
RATIOS = """\
A ratio above 1 says that Walclock is so many times better. *Other kinds* keep less: an event stream has no state, retry
or delay per event, and Redis holds jobs in memory and writes them down later.
"""
METHOD = """\
Each repetition of each measure starts from a new database, or an emptied Redis. PostgreSQL, Redis, producer and workers
share the machine, over TCP on loopback. A job carries 50 bytes (`{"i": 123, "k": "xxx…"}`), its handler only notes the
time. fsync and synchronous_commit are on: whatever a peer commits is durable. Figures are medians of the repetitions.

- **insert 1 by 1**: one client, one call after the other, each committed. **Bulk**: the fastest way the peer offers.
- **drain**: jobs divided by the time from the first handler's start until a query says that all are durably finished.
  Before it the tables are analyzed. CPU and memory are those of whole process trees, from `/proc`.
- **pick-up**: a job each 50 ms on an idle worker; from the return of the commit to the start of the handler.
- **delayed**: jobs spread evenly over their span, inserted 3 s ahead; from the instant to the start of the handler.
- **old snapshot**: the drain again, while a repeatable-read transaction that began after the insert is held open.
- Walclock's settings are the same in every measure. Peers with two settings got a trickle one for pick-up and delayed.
"""


def report(results: Results) -> str:
    """The page."""
    peers = [peer for peer in PEERS if peer.name in results.measured]
    commands = ", ".join(f"`{command}`" for command in results.commands)
    parts = [
        "# Walclock beside its peers\n",
        f"{results.date}, by {commands}: see [README.md](README.md).\n",
        *([SMALL] if results.size == "small" else []),
        "![Jobs per second and lateness of Walclock and its peers](peers.svg)\n",
        "## Against the best\n",
        _against(results, peers),
        RATIOS,
        "## Throughput, jobs/s\n",
        _table(
            ("", "insert 1 by 1", "bulk insert", "drain, 1 process", "2 processes", "jobs", "runs"),
            _rates(results, peers),
        ),
        "## Latency, ms\n",
        _table(("", "pick-up p50", "p95", "p99", "delayed p50", "p95", "p99", "earliest"), _latencies(results, peers)),
        "## Cost of a drain by one process\n",
        _table(
            (
                *("", "worker memory, MiB", "WAL B/job in", "WAL B/job out"),
                *("worker CPU s/10,000", "server CPU s/10,000 in", "server CPU s/10,000 out"),
            ),
            _costs(results, peers),
        ),
        "## With an old snapshot held open, jobs/s\n",
        _table(("", "drain, 1 process", "the same, snapshot held", "ratio"), _pinned(results, peers)),
        "## What each is and keeps\n",
        _table(("", "version", "settings", "what it keeps", "durability"), _kept(results, peers), numbers=False),
        "## How\n",
        METHOD,
        _table(("on", ""), sorted(results.machine.items()), numbers=False),
        *_failures(results),
    ]
    return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the comparison."""

    words: str
    measure: str
    name: str
    digits: int = 0
    lower_is_better: bool = False

    def of(self, results: Results, peer: Peer) -> float | None:
        return bulk(results, peer.name) if self.name == "bulk" else results.median(peer.name, self.measure, self.name)


FIGURES = (
    Figure("drain, 1 process, jobs/s", "drain 1", "rate"),
    Figure("drain, 2 processes, jobs/s", "drain 2", "rate"),
    Figure("bulk insert, jobs/s", "drain 1", "bulk"),
    Figure("insert 1 by 1, jobs/s", "enqueue", "rate"),
    Figure("pick-up p50, ms", "pick-up", "p50", 2, lower_is_better=True),
    Figure("pick-up p99, ms", "pick-up", "p99", 2, lower_is_better=True),
    Figure("delayed p50, ms late", "delayed", "p50", 2, lower_is_better=True),
    Figure("delayed p99, ms late", "delayed", "p99", 2, lower_is_better=True),
    Figure("drain under an old snapshot, jobs/s", "pinned", "rate"),
)


def bulk(results: Results, peer: str) -> float | None:
    """Each drain begins with a bulk insert."""
    return middle(results.values(peer, DRAINS, "bulk"))


def _against(results: Results, peers: Sequence[Peer]) -> str:
    own = next(peer for peer in PEERS if peer.name == WALCLOCK)
    like = [peer for peer in peers if peer.name != WALCLOCK and peer.kind == "queue" and not peer.on_redis]
    other = [peer for peer in peers if peer.kind == "stream" or peer.on_redis]

    def line(figure: Figure) -> Iterator[str]:
        value = figure.of(results, own)
        yield figure.words
        yield _number(value, figure.digits)
        for group in (like, other):
            found = [(number, peer) for peer in group if (number := figure.of(results, peer)) is not None]
            if value is None or not found:
                yield from (NONE, NONE)
                continue
            best, peer = (min if figure.lower_is_better else max)(found, key=lambda one: one[0])
            ratio = best / value if figure.lower_is_better else value / best
            yield f"{_number(best, figure.digits)} ({peer.title})"
            yield f"**{ratio:.2f}**"

    heads = ("", "Walclock", "best job queue on PostgreSQL", "ratio", "best of other kinds", "ratio")
    return _table(heads, map(line, FIGURES))


def _rates(results: Results, peers: Iterable[Peer]) -> Iterator[Sequence[str]]:
    for peer in peers:
        yield (
            peer.title,
            _number(results.median(peer.name, "enqueue", "rate")),
            _number(bulk(results, peer.name)),
            *(
                _number(results.median(peer.name, measure, "rate")) + _missing(results, peer, measure)
                for measure in ("drain 1", "drain 2")
            ),
            _number(results.median(peer.name, "drain 1", "jobs")),
            str(results.repetitions(peer.name)),
        )


def _latencies(results: Results, peers: Iterable[Peer]) -> Iterator[Sequence[str]]:
    names = ("p50", "p95", "p99")
    for peer in peers:
        yield (
            peer.title + _missing(results, peer, "pick-up") + _missing(results, peer, "delayed"),
            *(_number(results.median(peer.name, "pick-up", name), 2) for name in names),
            *(_number(results.median(peer.name, "delayed", name), 2) for name in (*names, "least")),
        )


def _missing(results: Results, peer: Peer, measure: str) -> str:
    """A mark where not everything was handled in time."""
    repetitions = results.measured[peer.name].get(measure, [])
    missing = sum(one.get("jobs", 0) - one.get("done", 0) for one in repetitions)
    return f" ({missing:,} never came)" if missing else ""


def _costs(results: Results, peers: Iterable[Peer]) -> Iterator[Sequence[str]]:
    for peer in peers:
        digits = {"resident": 0, "wal_bulk": 0, "wal": 0, "worker_cpu": 2, "server_cpu_bulk": 2, "server_cpu": 2}
        values = {name: results.median(peer.name, "drain 1", name) for name in digits}
        if peer.on_redis:
            values |= {"wal": None, "wal_bulk": None}
        yield (peer.title, *(_number(values[name], digits[name]) for name in digits))


def _pinned(results: Results, peers: Iterable[Peer]) -> Iterator[Sequence[str]]:
    for peer in peers:
        free, pinned = (results.median(peer.name, measure, "rate") for measure in ("drain 1", "pinned"))
        if free is not None and pinned is not None:
            yield (peer.title, _number(free), _number(pinned), f"{pinned / free:.2f}")


def _kept(results: Results, peers: Iterable[Peer]) -> Iterator[Sequence[str]]:
    for peer in peers:
        durability = "Redis: in memory, snapshots to disk" if peer.on_redis else "PostgreSQL: each commit on disk"
        used = (results.versions.get(peer.name, NONE), results.settings.get(peer.name, NONE))
        yield (peer.title, *used, peer.keeps, durability)


def _failures(results: Results) -> Iterator[str]:
    for peer, measure, error in results.errors():
        yield f"**{peer}, {measure}, failed:** `{' '.join(error.split())[:300]}`\n"


def _table(heads: Sequence[str], rows: Iterable[Iterable[str]], *, numbers: bool = True) -> str:
    rule: Callable[[int], str] = lambda column: "--:" if numbers and column else "---"  # noqa: E731
    lines = [heads, [rule(column) for column in range(len(heads))], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _number(value: float | None, digits: int = 0) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"
