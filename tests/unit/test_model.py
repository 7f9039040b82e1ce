"""Specs and definitions, checked before they reach the database."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.errors import InvalidError, ScheduleError
from scheduler.model import SPEC_BYTES, NewJob, _stored_bytes, encode_spec

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(spec=st.dictionaries(st.text(), VALUES))
def test_what_is_accepted_is_stored_as_it_is_and_no_larger_than_thought(
    db: psycopg.Connection, spec: dict[str, Any]
) -> None:
    try:
        text = encode_spec(spec)
    except InvalidError:
        return
    row = db.execute("select %(text)s::jsonb::text, pg_column_size(%(text)s::jsonb)", {"text": text}).fetchone()
    assert row is not None
    assert exactly(row[0]) == exactly(text)
    assert row[1] <= _stored_bytes(spec)


def exactly(text: str) -> Any:
    """Numbers as they are written: PostgreSQL stores 6.353552781628437e+16 as 63535527816284370, which is no float."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


@pytest.mark.parametrize(
    "value", ["x" * (SPEC_BYTES - 100), [0.1] * 40_000, [[]] * 70_000, {str(i): i for i in range(35_000)}]
)
def test_a_spec_just_below_the_limit_is_accepted_by_the_table_too(db: psycopg.Connection, value: Any) -> None:
    db.execute("insert into scheduler.run (executor, spec) values ('x', %s::jsonb)", [encode_spec({"a": value})])


def test_a_character_that_looks_like_nul_is_none() -> None:
    for text in ("\\u0000", "\\\\u0000", "u0000"):
        assert json.loads(encode_spec({"a": text})) == {"a": text}
    for text in ("\0", "\\\0", "\\\\\0"):
        with pytest.raises(InvalidError, match="NUL"):
            encode_spec({"a": text})


def test_a_spec_that_is_no_object_or_too_deep_is_refused() -> None:
    for spec in (None, ["a"], "x", 5):
        with pytest.raises(InvalidError, match="JSON object"):
            encode_spec(spec)
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(InvalidError, match="nested too deeply"):
        encode_spec(deep)


@pytest.mark.parametrize(
    ("wrong", "options"),
    [
        ("1 to 200", {"name": ""}),
        ("1 to 500", {"schedule": "* " * 300}),
        ("1 to 10000", {"misfire_limit": 0}),
        ("one of allow, skip, queue, replace", {"overlap": "never"}),
        ("one of skip, one, all", {"misfire": "most"}),
        ("0 to 36500 days", {"retry_delay": timedelta(seconds=-1)}),
        ("0 to 36500 days", {"jitter": timedelta(days=40_000)}),
        ("must be a timedelta", {"misfire_grace": 5}),
        (
            "before starts_at",
            {"starts_at": datetime(2100, 1, 2, tzinfo=UTC), "ends_at": datetime(2100, 1, 1, tzinfo=UTC)},
        ),
    ],
)
def test_a_definition_that_cannot_be_is_refused(wrong: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match=wrong):
        NewJob(**{"app": "shop", "name": "n", "executor": "shell", "spec": "{}", **options})


def test_a_schedule_that_nobody_can_follow_is_refused_even_its_zone_alone() -> None:
    refused: list[dict[str, Any]] = [
        {"schedule": "61 * * * *"},
        {"schedule": ""},
        {"timezone": "Mars"},
        {"dst_gap": "jump"},
    ]
    for options in refused:
        with pytest.raises((ScheduleError, InvalidError)):
            NewJob(app="shop", name="n", executor="shell", spec="{}", **options)
    job = NewJob(app="shop", name="n", executor="shell", spec="{}", schedule="CRON_TZ=Europe/Paris 0 3 * * *")
    parsed = job.parsed()
    assert parsed is not None
    assert parsed.timezone == "Europe/Paris"
