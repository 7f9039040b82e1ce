"""One short pass of the benchmarks of the HTTP API, of ticks and of scrapes, so that none rots."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.command import clean_environment
from tests.support.fleet import ROOT


def measured(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.direct("it starts a database of its own")
def test_the_benchmark_of_the_http_api_measures_posts_lines_and_a_flood() -> None:
    said = measured("tests/bench/http_api.py", "--seconds", "1", "--repeat", "1", "--lines", "2000")
    assert [line.partition(":")[0] for line in said.splitlines()] == [
        "single posts", "NDJSON", "pick-up p50", "pick-up p99",
    ]  # fmt: skip


@pytest.mark.direct("it starts a database of its own")
def test_the_benchmark_of_ticks_measures_them_end_to_end() -> None:
    said = json.loads(measured("-m", "tests.bench.ticks", "--ticks", "2000", "--seconds", "1", "--repeat", "1"))
    assert said


@pytest.mark.direct("it starts a database of its own")
def test_the_benchmark_of_scrapes_measures_runs_with_and_without_them() -> None:
    words = (
        "--rate",
        "1000",
        "--seconds",
        "3",
        "--every",
        "0.5",
        "--after",
        "0.2",
        "--repeat",
        "1",
        "--pending",
        "1000",
    )
    said = json.loads(measured("-m", "tests.bench.scraping", *words))
    assert said["medians"]["runs_per_second"] > 0
    assert said["scrape_ms_most"] > 0
