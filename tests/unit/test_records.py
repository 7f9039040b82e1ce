"""What services log, record by record."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scheduler import records

Started = Callable[..., io.StringIO]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    """Starts the records of a process; what it wrote."""
    root, before = logging.getLogger(), list(logging.getLogger().handlers)
    level = root.level
    levels = {name: logging.getLogger(name).level for name in ("asyncio", "psycopg", "psycopg.pool")}
    monkeypatch.setattr(records, "_hidden", hidden := records._Hidden())
    monkeypatch.setattr(records, "hide", hidden.add)

    def start(dsn: str | None = None, stream: io.StringIO | None = None, **env: str) -> io.StringIO:
        monkeypatch.setattr(sys, "stderr", stream or io.StringIO())
        records.start(dsn, env)
        return sys.stderr  # type: ignore[return-value]

    yield start
    logging.captureWarnings(capture=False)
    root.handlers[:] = before
    root.setLevel(level)
    for name, former in levels.items():
        logging.getLogger(name).setLevel(former)


def only(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    made: dict[str, Any] = json.loads(line)
    return made


def test_a_record_of_an_error_is_one_line_with_its_traceback(started: Started) -> None:
    out = started(SCHEDULER_LOG_FORMAT="json")
    try:
        int("two\nlines")
    except ValueError:
        logging.getLogger("x").exception("it\nbroke")
    record = only(out)
    assert (record["level"], record["logger"], record["message"]) == ("ERROR", "x", "it\nbroke")
    assert record["exception"].startswith("Traceback")
    assert record["exception"].endswith(r"ValueError: invalid literal for int() with base 10: 'two\nlines'")


def test_what_a_record_is_about_cannot_take_the_place_of_what_it_is(started: Started) -> None:
    out = started(SCHEDULER_LOG_FORMAT="json")
    logging.getLogger("x").warning("m", extra={"ts": 1, "level": "none", "run": 7, "what": {"a": object}, "no": None})
    record = only(out)
    assert (record["level"], record["level_"], record["ts_"], record["run"], record["no"]) == (
        "WARNING",
        "none",
        1,
        7,
        None,
    )
    assert record["what"] == "{'a': <class 'object'>}"


def test_a_record_that_cannot_be_shown_is_a_line_all_the_same(started: Started) -> None:
    out = started(SCHEDULER_LOG_FORMAT="json")
    logging.getLogger("x").error("%d of them", "none")
    record = only(out)
    assert record["message"].startswith("a record that cannot be shown: '%d of them': ")
    assert record["level"] == "ERROR"


def test_a_warning_of_a_library_is_a_record(started: Started) -> None:
    out = started(SCHEDULER_LOG_FORMAT="json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old\nthing", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old" in only(out)["message"]


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:p%40ss-word@h/d",
        "host=h password='p@ss-word'",
        "postgresq://u:p@ss-word@h/d",
        "postgresql://u@h/d?password=p%40ss-word",
    ],
)
def test_a_password_is_in_no_record_however_it_is_written(started: Started, form: str, dsn: str) -> None:
    out = started(dsn, SCHEDULER_LOG_FORMAT=form)
    log = logging.getLogger("x")
    log.warning("no way to %s", dsn, extra={"dsn": dsn})
    try:
        json.loads("{}")[dsn]
    except KeyError:
        log.exception("p@ss-word")
    assert "ss-word" not in out.getvalue()
    assert out.getvalue().count("***") == 4


def test_a_password_with_quotes_is_hidden_in_all_that_quotes_it(started: Started) -> None:
    dsn = r"host=h password='o\'clock \\ sharp'"
    out = started(dsn)
    logging.getLogger("x").warning("%s, %r, o'clock \\ sharp", dsn, dsn)
    assert "clock" not in out.getvalue()


def test_passwords_and_secrets_of_the_environment_are_hidden_and_short_ones_are_not(started: Started) -> None:
    env = {
        "SCHEDULER_DSN": "host=h password=first-one",
        "DATABASE_URL": "postgresql://u:second-one@h/d",
        "SCHEDULER_SQL_DSN_SHOP": "host=h password=third-one",
        "SCHEDULER_REDIS_URL": "redis://:fourth-one@h/0",
        "SCHEDULER_SECRET_X": "fifth-one",
        "PGPASSWORD": "sixth-one",
        "SCHEDULER_SECRET_Y": "a",
    }
    out = started(SCHEDULER_LOG_FORMAT="json", **env)
    logging.getLogger("x").warning("first-one second-one third-one fourth-one fifth-one sixth-one a")
    assert only(out)["message"] == "*** *** *** *** *** *** a"


def test_a_terminal_gets_colours_and_nothing_else_that_drives_it(started: Started) -> None:
    out = started(stream=Terminal())
    logging.getLogger("x").warning("a\x1b[2J\tb\u2028")
    assert "\x1b[33mWARNING\x1b[0m x: a\\x1b[2J\\tb\\u2028" in out.getvalue()
    out = started(stream=Terminal(), NO_COLOR="1")
    logging.getLogger("x").warning("plain")
    assert "\x1b" not in out.getvalue()


def test_only_what_is_as_loud_as_asked_for_is_a_record(started: Started) -> None:
    out = started(SCHEDULER_LOG="warning")
    logging.getLogger("x").info("quiet")
    logging.getLogger("asyncio").warning("noise")
    assert out.getvalue() == ""
