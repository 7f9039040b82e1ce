"""What is counted for Prometheus: in buckets, in batches, and in few series."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from scheduler.errors import ConfigError
from scheduler.metrics import catalogue
from scheduler.metrics.endpoint import Endpoint
from scheduler.metrics.exposition import Exposition
from scheduler.metrics.numbers import OTHER, Buckets, Histogram, Sample, Tally
from worker.lease import Held, Lease
from worker.meter import EXECUTORS, LANES, Meter
from worker.store import Report, Row

BOUNDS = (0.001, 0.1, 10.0)
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
values = st.one_of(st.floats(0, 100), st.sampled_from(BOUNDS))


@given(st.lists(values, min_size=1))
def test_many_values_at_once_fall_into_the_buckets_that_each_alone_would(several: list[float]) -> None:
    one_by_one, together = Histogram(BOUNDS), Histogram(BOUNDS)
    for value in several:
        one_by_one.add(value)
    together.add_all(list(several))
    assert together.buckets.counts == one_by_one.buckets.counts
    assert together.buckets.sum == pytest.approx(one_by_one.buckets.sum)
    expected = [sum(value <= bound for value in several) for bound in BOUNDS]
    assert [sum(together.buckets.counts[: place + 1]) for place in range(len(BOUNDS))] == expected


def test_what_started_early_by_two_clocks_makes_no_sum_shrink() -> None:
    late = Histogram(BOUNDS)
    late.add_all([-0.01, 0.05])
    assert late.buckets == Buckets((1, 1, 0, 0), 0.05)


def test_apps_beyond_the_first_are_counted_together() -> None:
    tally = Tally(most=2)
    for app in ("a", "b", "c", "d", "a"):
        tally.count(catalogue.RECLAIMED, app, number=2)
    assert {sample.labels: sample.value for sample in tally.samples()} == {("a",): 4, ("b",): 2, (OTHER,): 4}


def a_report(run: int, outcome: str = "succeeded", executor: str = "python", late: float = 0.002) -> Report:
    return Report(run, outcome, 100.0 + late, 100.5 + late, 100.0, executor)


def told(meter: Meter, **asked: list[tuple[str, str, str]]) -> dict[tuple[str, ...], float | Buckets]:
    found = meter.samples(asked.get("executed", []), asked.get("uncounted", []))
    return {(sample.family.name, *sample.labels): sample.value for sample in found}


def test_a_batch_is_counted_by_executor_outcome_lateness_and_duration() -> None:
    meter = Meter()
    reports = [a_report(1), a_report(2, "failed"), a_report(3, executor="shell", late=2.0)]
    reports.append(Report(4, "cancelled", None, 100.0, executor="shell", error="cancelled before it started"))
    meter.ended("shop", "mail", reports)
    found = told(meter)
    python, shell = ("shop", "mail", "python"), ("shop", "mail", "shell")
    assert found["scheduler_runs_started_total", *python] == 2
    assert found["scheduler_runs_started_total", *shell] == 1
    assert found["scheduler_runs_finished_total", *python, "failed"] == 1
    assert found["scheduler_runs_finished_total", *shell, "cancelled"] == 1
    late = found["scheduler_run_lateness_seconds", *shell]
    assert isinstance(late, Buckets)
    assert (sum(late.counts), late.counts[catalogue.LATENESS.index(5.0)]) == (1, 1)
    took = found["scheduler_run_duration_seconds", *python]
    assert isinstance(took, Buckets)
    assert sum(took.counts) == 2
    assert took.sum == pytest.approx(1.0)


def test_the_number_of_starts_never_falls_while_a_run_goes_from_running_to_counted() -> None:
    meter = Meter()
    lane = ("shop", "mail", "python")
    started = ("scheduler_runs_started_total", *lane)
    assert told(meter, executed=[lane])[started] == 1
    assert told(meter, uncounted=[lane])[started] == 1
    meter.ended("shop", "mail", [a_report(1)])
    assert told(meter)[started] == 1
    row = Row(2, "python", "{}", 0, 100.0, None, None, None, 3, 0)
    lease = Lease("shop", "mail", 7, [row], begun=True)
    assert told(meter, executed=[lane])[started] == 2
    meter.broken_off(Held(lease, row))
    assert told(meter)[started] == 2


def test_a_run_that_killed_what_ran_it_too_often_is_poison() -> None:
    meter = Meter()
    poison = a_report(1, "lost")
    poison.is_poison = True
    meter.ended("shop", "mail", [a_report(2), poison, a_report(3, "lost")])
    assert told(meter)["scheduler_runs_poisoned_total", "shop"] == 1


def test_a_thousand_queues_and_a_dozen_executors_make_few_series_and_right_sums() -> None:
    meter = Meter()
    for queue in range(1_000):
        for executor in range(12):
            reports = [a_report(0, outcome, f"x{executor}") for outcome in ("succeeded", "failed", "cancelled", "lost")]
            meter.ended(f"app {queue % 40}", f"queue {queue}", reports)
        meter.fired(f"app {queue}", {"result": {"fires": 1, "skipped": 1, "missed": 1}})
    exposition = Exposition()
    exposition.add(lambda: meter.samples([], []))
    text, _ = exposition.text(exposition.samples(), "")
    lines = [line for line in text.decode().splitlines() if not line.startswith("#")]
    assert len(lines) < 1_100  # and a server's in the same process are fewer than 900
    finished = Counter[str]()
    lanes = set()
    for sample in exposition.samples():
        if sample.family is catalogue.FINISHED and not isinstance(sample.value, Buckets):
            finished[sample.labels[3]] += int(sample.value)
            lanes.add(sample.labels[:3])
    assert finished == dict.fromkeys(["succeeded", "failed", "cancelled", "lost"], 12_000)
    assert len(lanes) <= LANES + EXECUTORS + 1


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_two_parts_of_a_process_that_tell_the_same_make_one_series(accept: str) -> None:
    exposition = Exposition()
    for connected, fires, offset in ((1, 3, 0.1), (0, 4, -0.5)):
        samples = [
            Sample(catalogue.LISTENER, (), connected),
            Sample(catalogue.FIRES, ("shop", "skipped"), fires),
            Sample(catalogue.CLOCK_OFFSET, (), offset),
        ]
        exposition.add(lambda samples=samples: samples)  # type: ignore[misc]
    text, _ = exposition.text(exposition.samples(), accept)
    for line in (
        "scheduler_listener_connected 0.0",
        'scheduler_fires_total{app="shop",outcome="skipped"} 7.0',
        "scheduler_db_clock_offset_seconds -0.5",
    ):
        assert text.decode().splitlines().count(line) == 1, text.decode()


def test_a_name_with_quotes_and_newlines_is_read_back_as_it_was() -> None:
    exposition = Exposition()
    name = 'a "b"\\\n{c}'
    exposition.add(lambda: [Sample(catalogue.JOBS, (name,), 1)])
    text, _ = exposition.text(exposition.samples(), OPENMETRICS)
    (family,) = [one for one in text_string_to_metric_families(text.decode()) if one.name == "scheduler_jobs"]
    assert family.samples[0].labels == {"app": name}


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::"])
def test_where_others_reach_it_a_token_is_needed(host: str) -> None:
    with pytest.raises(ConfigError, match="names of apps") as refused:
        Endpoint(host, 0, Exposition(), token=None, is_open=False)
    assert "SCHEDULER_METRICS_TOKEN" in str(refused.value.hint)
