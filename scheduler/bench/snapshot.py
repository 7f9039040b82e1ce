"""A drain while somebody holds an old snapshot open, so that no dead row can be cleared away; beside one without."""

from __future__ import annotations

from scheduler.bench import load
from scheduler.bench.bench import Bench
from scheduler.bench.connection import value
from scheduler.bench.drain import Drained, drain
from scheduler.bench.statements import statement


def measure(bench: Bench) -> None:
    for words in bench.repetitions("snapshot"):
        with bench.bars.step(f"{words}: without"):
            without = _drained(bench)
        with (
            bench.bars.step(f"{words}: with a snapshot held open"),
            bench.connect() as holding,
            holding.transaction(),
        ):
            holding.execute(statement("repeatable_read"))
            value(holding, "now")  # the snapshot is taken by the first query
            under = _drained(bench)
        bench.results.add(
            "snapshot",
            "drain with a snapshot held open; floor: without",
            "runs/s",
            under.rate,
            floor=without.rate,
            memory=under.memory,
            costs=under.costs,
            details={"runs": bench.options.runs},
        )


def _drained(bench: Bench) -> Drained:
    options = bench.options
    return drain(bench, spec=load.spec("bench_async"), runs=options.runs, count=1, concurrency=options.concurrency)
