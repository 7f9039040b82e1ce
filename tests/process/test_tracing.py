"""Spans of real workers and servers, as a collector gets them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.collector import Collector, collecting
from tests.support.fleet import Fleet, wait_until

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def test_an_attempt_is_a_child_of_what_enqueued_its_run_and_linked_to_it(fleet: Fleet, collector: Collector) -> None:
    fleet.start(env=collector.env())
    (run,) = fleet.insert("note", app="shop", traceparent=GIVEN, job="nightly")
    (span,) = collector.wait_for(1, "run python")
    assert (span.trace, span.parent, span.links) == (TRACE, PARENT, [(TRACE, PARENT)])
    assert (span.kind, span.is_error, span.service) == ("CONSUMER", False, "walclock")
    lateness = span.attributes.pop("walclock.lateness")
    assert 0 <= lateness < 30
    assert span.attributes == {
        "messaging.system": "walclock",
        "messaging.operation.name": "run",
        "messaging.operation.type": "process",
        "messaging.destination.name": "shop/default",
        "messaging.message.id": str(run),
        "walclock.app": "shop",
        "walclock.queue": "default",
        "walclock.executor": "python",
        "walclock.job": "nightly",
        "walclock.run_id": run,
        "walclock.attempt": 1,
        "walclock.fence": fleet.row(run)["fence"],
        "walclock.outcome": "succeeded",
    }


def test_spans_that_a_task_makes_are_children_of_its_attempt_in_threads_and_processes_too(
    fleet: Fleet, collector: Collector
) -> None:
    fleet.start(env=collector.env())
    runs = [
        run
        for kind in ("traced", "traced_thread", "traced_process")
        for run in fleet.insert(kind, count=3, traceparent=GIVEN)
    ]
    fleet.wait_for(runs)
    for run in runs:
        (attempt,) = collector.wait_for(1, "run python", run)
        (inside,) = collector.wait_for(1, "inside", run)
        assert (inside.trace, inside.parent) == (TRACE, attempt.id)
        assert fleet.row(run)["result"] == f"{attempt.traceparent}-01", "what ctx.traceparent says"


def test_each_attempt_has_a_span_that_says_how_it_failed_and_tells_no_secret(
    fleet: Fleet, collector: Collector
) -> None:
    fleet.start(env=collector.env(SCHEDULER_SECRET_CARD="4111-1111-1111"))
    (run,) = fleet.insert(
        "refuse", {"text": "no card ${secret:card}"}, max_attempts=2, retry_delay="0 s", traceparent=GIVEN
    )
    fleet.wait_for([run], "failed")
    spans = collector.wait_for(2, "run python", run)
    assert [span.attributes["walclock.attempt"] for span in spans] == [1, 2]
    assert len({span.id for span in spans}) == 2
    for span in spans:
        assert span.links == [(TRACE, PARENT)]
        assert (span.is_error, span.said) == (True, "ValueError: no card ***")
        assert span.attributes["error.type"] == "ValueError"
        assert span.attributes["walclock.outcome"] == "failed"
    assert b"4111" not in b"".join(collector.bodies)


def test_the_attempt_after_a_killed_worker_is_linked_as_the_first_was(fleet: Fleet, collector: Collector) -> None:
    first = fleet.start(env=collector.env())
    (run,) = fleet.insert("nap", {"seconds": 2}, traceparent=GIVEN)
    fleet.wait_for_effect("began", [run])
    first.kill()
    fleet.start(env=collector.env())
    fleet.wait_for([run], reclaim=True)
    (span,) = collector.wait_for(1, "run python", run)
    assert span.attributes["walclock.attempt"] == 2
    assert (span.trace, span.parent, span.links) == (TRACE, PARENT, [(TRACE, PARENT)])


def test_attempts_of_a_run_that_nobody_traced_begin_one_trace_of_their_own(fleet: Fleet, collector: Collector) -> None:
    fleet.start(env=collector.env())
    runs = fleet.insert("refuse", {"text": "no"}, count=2, max_attempts=2, retry_delay="0 s", traceparent="nonsense")
    fleet.wait_for(runs, "failed")
    one, other = (collector.wait_for(2, "run python", run) for run in runs)
    assert [len({span.trace for span in spans}) for spans in (one, other)] == [1, 1]
    assert one[0].trace != other[0].trace
    assert {span.parent for span in (*one, *other)} == {""}
    assert [span.links for span in (*one, *other)] == [[]] * 4


def test_what_an_attempt_calls_gets_its_own_span(fleet: Fleet, collector: Collector) -> None:
    allowed = {"SCHEDULER_HTTP_ALLOW": "127.0.0.1"}
    fleet.start(env=collector.env(**allowed), executors=["http", "shell"])
    (called,) = fleet.insert_run("http", json.dumps({"url": f"{collector.url}/hook", "body": ""}), traceparent=GIVEN)
    (told,) = fleet.insert_run("shell", json.dumps({"command": "echo $TRACEPARENT"}))
    fleet.wait_for([called, told])
    assert collector.called == [f"{collector.wait_for(1, 'run http', called)[0].traceparent}-01"]
    (shell,) = collector.wait_for(1, "run shell", told)
    assert fleet.row(told)["result"]["stdout"].startswith(shell.traceparent)


def test_without_a_collector_the_stored_traceparent_is_handed_on_as_it_is(fleet: Fleet) -> None:
    fleet.start(executors=["python", "shell"])
    runs = [
        *fleet.insert("trace_handed_on", traceparent=GIVEN),
        *fleet.insert("trace_handed_on", traceparent="nonsense"),
        *fleet.insert("trace_handed_on"),
        *fleet.insert_run("shell", '{"command": "echo =$TRACEPARENT"}', traceparent=GIVEN),
        *fleet.insert_run("shell", '{"command": "echo =$TRACEPARENT"}'),
    ]
    fleet.wait_for(runs)
    python, nonsense, none, shell, bare = (fleet.row(run)["result"] for run in runs)
    assert (python, nonsense, none) == (GIVEN, None, None)
    assert (shell["stdout"], bare["stdout"]) == (f"={GIVEN}\n", "=\n")


def test_a_worker_that_stops_sends_its_last_spans(fleet: Fleet, collector: Collector) -> None:
    worker = fleet.start(env=collector.env(OTEL_BSP_SCHEDULE_DELAY="600000", OTEL_SERVICE_NAME="mailer"))
    fleet.wait_for(fleet.insert("note", count=5))
    assert collector.spans() == []
    worker.term()
    assert worker.wait() == 0
    assert [(span.name, span.service) for span in collector.spans()] == [("run python", "mailer")] * 5


def test_a_dead_collector_costs_a_warning_and_neither_a_run_nor_a_stop(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, and answers nobody
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        # A queue that is soon full, and a timeout that is soon over: what would be said again is.
        sending = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.3", "OTEL_BSP_MAX_QUEUE_SIZE": "4"}
        batch = {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2"}
        worker = fleet.start(env={"OTEL_EXPORTER_OTLP_ENDPOINT": url, **sending, **batch})
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            fleet.wait_for(fleet.insert("note", count=5))
        wait_until(lambda: "spans cannot be sent" in worker.log)
        warnings = [line for line in worker.log.splitlines() if " WARNING " in line or " ERROR " in line]
        assert len(warnings) == 1, warnings
        assert "spans cannot be sent" in warnings[0]
        began = time.monotonic()
        worker.term()
        assert worker.wait() == 0
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("asked", [True, False])
def test_the_missing_extra_is_a_line_for_those_who_ask_for_traces(fleet: Fleet, tmp_path: Path, asked: bool) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['opentelemetry'] = None\n")
    env = {"PYTHONPATH": str(tmp_path), **({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"} if asked else {})}
    worker = fleet.start(env=env)
    fleet.wait_for(fleet.insert("note", traceparent=GIVEN))
    lines = [line for line in worker.log.splitlines() if "otel" in line.lower()]
    assert len(lines) == asked, lines
    if asked:
        assert "OTEL_EXPORTER_OTLP_ENDPOINT is set, and nothing is traced" in lines[0]
        assert "pip install 'walclock[otel]'" in lines[0]
