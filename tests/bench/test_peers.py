"""The harness of the side-by-side benchmark works, and its page says what was measured."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict

from tests.bench.peers.__main__ import main
from tests.bench.peers.catalogue import MEASURES, PEERS, WALCLOCK, Measure, Size, chosen
from tests.bench.peers.chart import chart
from tests.bench.peers.measure import Bench
from tests.bench.peers.report import report
from tests.bench.peers.results import Results
from tests.bench.peers.servers import Postgres

HERE = Path(__file__).parent
MEASURED = HERE / "results.json"
TINY = Size(enqueue=50, drain=3000, pick_up=20, gap=0.02, delayed=50, span=0.5)


@pytest.fixture(scope="module")
def measured() -> Results:
    """The run that the project shows."""
    return Results.read(MEASURED)


@pytest.fixture
def bench(dsn: str, tmp_path: Path) -> Bench:
    """Walclock's, in small, on the tests' server."""
    peer = next(peer for peer in PEERS if peer.name == WALCLOCK)
    database = f"{conninfo_to_dict(dsn)['dbname']}_bench"
    return Bench(peer, TINY, Postgres(dsn), None, tmp_path / "log", database)


@pytest.mark.parametrize("measure", MEASURES)
def test_walclock_is_measured_like_a_peer_and_does_all_of_the_work(bench: Bench, measure: Measure) -> None:
    numbers = bench.run(measure)
    assert numbers.get("done") == numbers.get("jobs"), bench.log.read_text()
    assert all(numbers[name] > 0 for name in ("rate", "bulk", "wal", "wal_bulk", "resident") if name in numbers)
    assert numbers.get("rate") or numbers["most"] >= numbers["p99"] >= numbers["p50"] >= numbers["least"]
    if measure == "delayed":
        assert numbers["least"] >= -1, "a millisecond is the error of the two clocks; earlier is too early"


def test_a_measure_leaves_no_database_behind(bench: Bench, db: psycopg.Connection) -> None:
    bench.run("enqueue")
    assert db.execute("select from pg_database where datname = %s", [bench.database]).rowcount == 0


def test_what_fails_is_reported_and_not_counted(measured: Results) -> None:
    measured = replace(measured, measured={**measured.measured, WALCLOCK: {}})
    for numbers in ({"rate": 100.0}, {"error": "RuntimeError: it fell over"}, {"rate": 300.0}):
        measured.add(WALCLOCK, "drain 1", numbers)
    assert measured.median(WALCLOCK, "drain 1", "rate") is None
    assert "**walclock, drain 1, failed:** `RuntimeError: it fell over`" in report(measured)


def test_figures_are_medians_and_the_ratio_is_against_the_best_peer_of_the_same_kind() -> None:
    results = Results()
    for peer, rates in ((WALCLOCK, (90, 150, 120)), ("graphile", (40, 60, 50)), ("pgq", (480,)), ("celery", (7,))):
        for rate in rates:
            results.add(peer, "drain 1", {"rate": float(rate), "jobs": 10, "done": 10})
    line = next(line for line in report(results).splitlines() if line.startswith("| drain, 1 process, jobs/s"))
    assert line.split(" | ")[1:] == ["120", "50 (graphile-worker, batched)", "**2.40**", "480 (PgQ)", "**0.25** |"]


def test_a_latency_is_better_when_it_is_lower() -> None:
    results = Results()
    for peer, wait in ((WALCLOCK, 1.0), ("graphile", 3.0), ("pgboss", 2.0)):
        results.add(peer, "pick-up", {"p50": wait, "p95": wait, "p99": wait})
    line = next(line for line in report(results).splitlines() if line.startswith("| pick-up p50"))
    assert line.split(" | ")[1:] == ["1.00", "2.00 (pg-boss)", "**2.00**", "-", "- |"]


def test_the_page_and_the_picture_that_are_shown_are_made_of_the_results_beside_them(
    measured: Results, tmp_path: Path
) -> None:
    """Nobody touched up a figure, and both still come out of a file as a run left it."""
    done = CliRunner().invoke(main, ["report", "--file", str(MEASURED), "--to", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0
    for name in ("RESULTS.md", "peers.svg", "results.json"):
        assert (tmp_path / name).read_text() == (HERE / name).read_text(), f"write {name} anew: … peers report"
    assert {*measured.measured} <= {peer.name for peer in PEERS}


def test_the_picture_is_a_small_svg_with_a_line_per_job_queue(measured: Results) -> None:
    drawn = chart(measured)
    words = [element.text for element in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    shown = {peer.title.strip("*") for peer in PEERS if peer.name in measured.measured and peer.kind == "queue"}
    assert shown <= {*words}
    assert len(drawn) < 20_000


def test_every_peer_has_its_script_and_an_unknown_one_is_refused() -> None:
    scripts = HERE / "peers" / "scripts"
    for peer in PEERS:
        assert (scripts / (peer.script if peer.in_node else f"{peer.script}.py")).exists(), peer.name
    assert [peer.name for peer in chosen("pgboss graphile")] == ["graphile", "pgboss"]
    assert chosen("") == [*PEERS]
    with pytest.raises(KeyError, match="sidekiq"):
        chosen("graphile sidekiq")
