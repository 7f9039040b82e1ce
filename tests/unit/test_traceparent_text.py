"""What is a traceparent and what is none, as W3C says it; and what an effect of a run is told of it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import psycopg
import pytest
from opentelemetry import trace

from scheduler import enqueue, telemetry
from scheduler.errors import InvalidError
from scheduler.tracing import followed, well_formed
from tests.support.calls import call
from worker.containers.policy import Policy
from worker.containers.request import requested
from worker.executors.shell import parsed
from worker.headers import told, traceparent

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (GIVEN, GIVEN),
        (f"00-{TRACE}-{PARENT}-00", f"00-{TRACE}-{PARENT}-00"),
        (f"cc-{TRACE}-{PARENT}-01-what-will-be", GIVEN),
        (f"00-{TRACE}-{PARENT}-01-more", None),
        (f"ff-{TRACE}-{PARENT}-01", None),
        (f"00-{'0' * 32}-{PARENT}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (GIVEN.upper(), None),
        (f"{GIVEN}\n", None),
        (f"00-{TRACE}-{PARENT}", None),
        ("", None),
        (None, None),
    ],
)
def test_what_is_no_traceparent_is_passed_over(given: str | None, taken: str | None) -> None:
    assert well_formed(given) == taken


def test_a_run_from_python_carries_the_span_that_is_active(db: psycopg.Connection) -> None:
    with trace.use_span(trace.get_current_span(followed(GIVEN))):
        enqueue(db, "shop", "t")
        enqueue(db, "shop", "t", traceparent=f"00-{TRACE[::-1]}-{PARENT}-01")
    enqueue(db, "shop", "t")
    stored = [given for (given,) in db.execute("select traceparent from scheduler.run order by id")]
    assert stored == [GIVEN, f"00-{TRACE[::-1]}-{PARENT}-01", None]


def test_what_python_gives_must_be_one(db: psycopg.Connection) -> None:
    with pytest.raises(InvalidError, match="traceparent is 'nonsense'"):
        enqueue(db, "shop", "t", traceparent="nonsense")


def test_a_client_without_opentelemetry_does_not_import_it(dsn: str) -> None:
    program = (
        "import sys, psycopg; from scheduler import enqueue\n"
        "with psycopg.connect(sys.argv[1]) as conn: enqueue(conn, 'shop', 't')\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program, dsn], check=True, timeout=30)


def test_headers_and_environments_tell_it_unless_the_spec_tells_another() -> None:
    run = call({"command": "x"}, traceparent=GIVEN)
    assert told(run, {})["traceparent"] == GIVEN
    assert told(run, {"Traceparent": "mine"}) == {**told(run, {"Traceparent": "mine"}), "Traceparent": "mine"}
    assert "traceparent" not in told(run, {"Traceparent": "mine"})
    assert traceparent(run) == GIVEN
    assert traceparent(call({})) != traceparent(call({})), "the head of a new trace"
    assert parsed(run, {"TRACEPARENT": "the worker's"}).environment["TRACEPARENT"] == GIVEN
    own: dict[str, Any] = {"command": "x", "environment": {"TRACEPARENT": "mine"}}
    assert parsed(call(own, traceparent=GIVEN), {}).environment["TRACEPARENT"] == "mine"
    assert "TRACEPARENT" not in parsed(call({"command": "x"}), {}).environment
    container = requested(call({"image": "i"}, traceparent=GIVEN), Policy((), ("*",)), {})
    assert f"TRACEPARENT={GIVEN}" in container.body["Env"]


@pytest.mark.parametrize(
    ("env", "asks"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "shop"}, False),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, False),
        ({"OTEL_TRACES_EXPORTER": "unheard-of"}, True),
    ],
)
def test_tracing_is_off_unless_its_variables_ask_for_it(env: dict[str, str], asks: bool) -> None:
    complaint = telemetry.start(env)
    assert telemetry.tracer() is None
    said = "OTEL_TRACES_EXPORTER is set, and nothing is traced: no installed package has the exporter 'unheard-of'; "
    assert (complaint or "").startswith(said if asks else "")
    assert (complaint is not None) == asks
