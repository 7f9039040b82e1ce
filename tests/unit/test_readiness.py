"""Whether a server does its work, as it says itself."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from scheduler.config import Settings
from scheduler.service import LATE, Server


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> float:
    """The monotonic clock, which stands."""
    now = time.monotonic()
    monkeypatch.setattr("scheduler.service.time", SimpleNamespace(monotonic=lambda: now))
    return now


@pytest.fixture
def server(now: float) -> Server:
    server = Server("host=nowhere", Settings(), label="test")
    server.id = 1
    server.listener.lost_at = None
    return server


def test_a_server_whose_loops_succeed_has_no_complaint(server: Server) -> None:
    assert server.complaint() is None


def test_a_server_that_is_not_registered_yet_is_starting(server: Server) -> None:
    server.id = None
    assert server.complaint() == "the server is starting"


@pytest.mark.parametrize("name", ["heartbeat", "assigner", "planner", "reclaimer"])
def test_a_loop_that_has_not_succeeded_for_long_is_named(server: Server, now: float, name: str) -> None:
    server.loops[name].last_success = now - LATE
    assert server.complaint() is None, "its pause is not lateness"
    server.loops[name].last_success -= 5
    assert server.complaint() == f"the {name} has not succeeded for 20 s"


def test_the_janitor_may_rest_for_an_hour(server: Server, now: float) -> None:
    server.loops["janitor"].last_success = now - 3_000
    assert server.complaint() is None


def test_a_listener_that_is_lost_for_long_is_a_complaint_and_a_pooler_is_not(
    server: Server, now: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.listener.lost_at = now - 1
    assert server.complaint() is None
    server.listener.lost_at = now - LATE - 5
    assert server.complaint() == "notifications are not heard for 20 s"
    monkeypatch.setattr(server.listener, "_is_known_to_be_pooled", True)
    assert server.complaint() is None
