"""The parts of the benchmark that can be wrong without anybody noticing: sums, medians, /proc, SQL files."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import psycopg
import pytest
from pglast import parse_sql

from scheduler.bench import proc
from scheduler.bench.meter import Costs, Meter
from scheduler.bench.plot import draw
from scheduler.bench.results import Results, percentile
from scheduler.bench.statements import statement
from scheduler.install import SQL_ROOT, SqlTree

FILES = sorted((SQL_ROOT / "bench").glob("*.sql"))
CODE = Path(proc.__file__).parent
linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, share) for share in (0.01, 0.2, 0.5, 0.99, 1.0)] == [1.0, 1.0, 3.0, 5.0, 5.0]
    assert percentile([float(number) for number in range(1, 1_001)], 0.99) == 990.0


def test_a_line_keeps_every_measurement_and_each_ratio_is_of_one_repetition() -> None:
    results = Results()
    for figure, floor in ((50.0, 100.0), (90.0, 100.0), (60.0, 240.0)):
        results.add("drain", "drain", "runs/s", figure, floor=floor, costs=Costs(10.0, None), details={"runs": 1})
    line = results.lines["drain"].as_json()
    assert line["figure"] == {"median": 60.0, "min": 50.0, "max": 90.0, "values": [50.0, 90.0, 60.0]}
    assert line["ratio"] == {"median": 0.5, "min": 0.25, "max": 0.9, "values": [0.5, 0.9, 0.25]}
    assert line["wal_bytes_per_run"]["values"] == [10.0, 10.0, 10.0]
    assert line["database_cpu_us_per_run"] is None
    assert line["details"] == [{"runs": 1}] * 3


def test_costs_add_up_and_are_shared_among_runs() -> None:
    assert (Costs(100.0, 8.0) + Costs(300.0, 4.0)).per(4) == Costs(100.0, 3.0)
    assert (Costs(100.0, None) + Costs(300.0, 4.0)).per(4) == Costs(100.0, None)


@linux
def test_this_process_has_used_cpu_and_memory() -> None:
    before, until = proc.cpu_exactly(os.getpid()), time.process_time() + 0.05
    while time.process_time() < until:
        pass
    after = proc.cpu_exactly(os.getpid())
    assert before is not None
    assert after is not None
    assert 0.04 < after - before < 5
    assert (proc.peak_memory_of_tree(os.getpid()) or 0) > 5e6
    assert (proc.cpu_of_tree(os.getpid()) or 0) > 0
    assert proc.parent(os.getpid()) == os.getppid()


def test_a_process_that_is_gone_has_no_figures() -> None:
    gone = 2**22 + 1  # more than any kernel gives
    assert [proc.cpu(gone), proc.cpu_exactly(gone), proc.cpu_of_tree(gone), proc.started_at(gone)] == [None] * 4
    assert proc.peak_memory_of_tree(gone) is None


def test_without_proc_there_are_no_figures_and_no_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "_PROC", Path("/nowhere"))
    assert proc.tree(os.getpid()) == [os.getpid()]
    assert [proc.cpu(os.getpid()), proc.cpu_exactly(os.getpid()), proc.started_at(os.getpid())] == [None] * 3
    assert proc.peak_memory_of_tree(os.getpid()) is None


@linux
def test_the_wal_and_the_cpu_of_a_local_server_are_measured(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.RawCursor) as conn:
        meter = Meter(conn)
        assert meter.is_local
        before = meter.read()
        conn.execute("create table grown as select n from generate_series(1, 300000) n")
        costs = meter.since(before)
    assert costs.wal is not None
    assert costs.cpu is not None
    # Of the whole server: other tests write as well, and one whose backend ends takes its CPU out of the sum.
    assert costs.wal > 300_000
    assert costs.cpu < 60e6


@linux
def test_a_backend_that_is_no_process_of_ours_has_no_cpu(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        proc, "started_at", lambda _: 1.0
    )  # the pid is somebody else's, as when PostgreSQL is elsewhere
    with psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.RawCursor) as conn:
        meter = Meter(conn)
        assert not meter.is_local
        costs = meter.since(meter.read())
    assert costs.wal is not None
    assert costs.cpu is None


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_chart_has_a_panel_for_each_unit_and_lines_without_a_floor(tmp_path: Path, suffix: str) -> None:
    results = Results()
    results.add("drain", "drain", "runs/s", 50.0, floor=100.0, details={})
    results.add("idle", "idle", "% of a core", 1.0, details={})
    document = {
        "walclock": "1",
        "database": {"version": "18.1 (x)"},
        "machine": {"cpus": 2},
        "lines": [line.as_json() for line in results.lines.values()],
    }
    draw(document, tmp_path / f"chart.{suffix}")
    data = (tmp_path / f"chart.{suffix}").read_bytes()
    assert data.startswith(b"\x89PNG") if suffix == "png" else b"<svg" in data[:1_000]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_of_the_benchmark_is_one_statement_that_something_uses(path: Path) -> None:
    assert len(parse_sql(statement(path.stem).decode())) == 1
    code = "\n".join(one.read_text() for one in CODE.glob("*.py"))
    names = set(re.findall(r'"(\w+)"', code)) | set(re.findall(r"\b(\w+)=\[", code))
    composed = {"copy_run", "copy_scratch_run", "scratch_run", "scratch_history"}
    composed |= {f"{kind}_is_there" for kind in ("worker", "server")}
    assert path.stem in names | composed or path.stem.removeprefix("forget_") in names


def test_no_install_applies_the_files_of_the_benchmark() -> None:
    tree = SqlTree.read()
    assert {one.name.partition("/")[0] for one in (*tree.migrations, *tree.functions)}.isdisjoint({"bench"})
