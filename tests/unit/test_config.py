"""Settings and DSNs, before anything is connected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from scheduler.config import Settings, redact, resolve_dsn, resolve_listen_dsn
from scheduler.db import Backoff, read_dsn
from scheduler.errors import ConfigError


def test_without_any_setting_the_documented_defaults_hold() -> None:
    settings = Settings.from_env({})
    assert (settings.heartbeat, settings.dead_after, settings.poll) == (1, 5, 1)
    assert (settings.plan_ahead, settings.horizon, settings.grace) == (10, 0.5, 30)
    assert settings.history_retention == 30 * 24 * 3600
    assert settings.statement_timeout == 10


def test_a_setting_is_read_in_seconds() -> None:
    assert Settings.from_env({"SCHEDULER_HORIZON": " 0.25 ", "SCHEDULER_POLL": ""}) == Settings(horizon=0.25)


@pytest.mark.parametrize("text", ["5s", "nan", "inf", "-1", "0", "one", "1e9"])
def test_a_wrong_setting_is_refused_with_its_name_and_range(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"SCHEDULER_POLL='{text}': expected a number of seconds from 0.01 to 60"):
        Settings.from_env({"SCHEDULER_POLL": text})


def test_dead_before_three_heartbeats_is_refused() -> None:
    with pytest.raises(ConfigError, match="set SCHEDULER_DEAD_AFTER to 6 or more"):
        Settings.from_env({"SCHEDULER_HEARTBEAT": "2"})


def test_the_option_comes_before_the_environment_and_ours_before_the_common_name() -> None:
    env = {"SCHEDULER_DSN": "ours", "DATABASE_URL": "common"}
    assert resolve_dsn("option", env) == "option"
    assert resolve_dsn(None, env) == "ours"
    assert resolve_dsn("", {"SCHEDULER_DSN": " ", "DATABASE_URL": "common"}) == "common"
    assert resolve_dsn(None, {}) is None
    assert resolve_listen_dsn("option", {"SCHEDULER_LISTEN_DSN": "ours"}) == "option"
    assert resolve_listen_dsn(None, {"SCHEDULER_LISTEN_DSN": "ours"}) == "ours"
    assert resolve_listen_dsn(None, {"SCHEDULER_LISTEN_DSN": " ", "SCHEDULER_DSN": "another"}) is None


@pytest.mark.parametrize(
    ("dsn", "attributes", "timeout"),
    [
        ("host=one", None, "10"),
        ("postgresql://one,two:5433/db", "read-write", "5"),
        ("hostaddr=127.0.0.1,127.0.0.2,127.0.0.3", "read-write", "3"),
        ("host=one,two target_session_attrs=any connect_timeout=7", "any", "7"),
    ],
)
def test_among_several_hosts_the_one_that_takes_writes_is_looked_for(
    dsn: str, attributes: str | None, timeout: str
) -> None:
    given = conninfo_to_dict(read_dsn(dsn, name="test"))
    assert given.get("target_session_attrs") == attributes
    assert given["connect_timeout"] == timeout


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://u:secret@h:5/db?sslmode=require", "postgresql://u:***@h:5/db?sslmode=require"),
        ("postgresql://u:se@c/r:et@h/db", "postgresql://u:***@h/db"),
        ("postgresql://h/db?password=secret&user=u", "postgresql://h/db?password=***&user=u"),
        ("postgresql://u@h/db?sslpassword=secret", "postgresql://u@h/db?sslpassword=***"),
        ("postgresql://u@h:5432/db", "postgresql://u@h:5432/db"),
        ("host=h password=secret&more dbname=x", "host=h password=*** dbname=x"),
        (r"password = 'a b\' secret' host=h", "password = *** host=h"),
        (r"password=a\ secret host=h", "password=*** host=h"),
        ("host='a://b' PASSWORD=secret", "host='a://b' PASSWORD=***"),
        ("host=h password='never closed secret", "host=h password=***"),
    ],
)
def test_a_password_is_hidden_in_every_form_of_a_dsn(dsn: str, shown: str) -> None:
    assert redact(dsn) == shown


@pytest.mark.parametrize(
    "dsn",
    ["hunter2", "host=h hunter2", "postgresql://u:p@hunter2@h/db", "postgresql://u:hunter2/x@h/db", "sqlite://hunter2"],
)
def test_an_unreadable_dsn_is_refused_without_quoting_it(dsn: str) -> None:
    with pytest.raises(ConfigError, match="the DSN cannot be read") as refused:
        read_dsn(dsn, name="test")
    assert "hunter2" not in str(refused.value)


def test_what_the_dsn_says_comes_before_our_defaults() -> None:
    read = read_dsn("host=h connect_timeout=3", name="worker")
    assert "connect_timeout=3" in read
    assert "keepalives_idle=10" in read
    assert "application_name='walclock worker'" in read


@given(st.integers(1, 200))
def test_backoff_stays_within_its_bounds_however_often_it_fails(failures: int) -> None:
    backoff = Backoff()
    waits = [backoff.next() for _ in range(failures)]
    assert all(0.05 <= wait <= min(5.0, 0.05 * 2 ** (n + 1)) for n, wait in enumerate(waits))
    backoff.reset()
    assert backoff.next() <= 0.1
