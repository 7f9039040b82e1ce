"""Instants and texts reach PostgreSQL as they are, instants to the microsecond."""

from __future__ import annotations

import psycopg
import pytest

from scheduler.arrays import Instants, Texts


@pytest.mark.parametrize(
    "seconds", [[], [0.0], [1_795_000_000.123456, 946_684_800.0, 946_684_799.999999], [None, 1.5, None], [4e9]]
)
def test_instants_are_an_array_of_timestamptz(db: psycopg.Connection, seconds: list[float | None]) -> None:
    query = "select array(select date_part('epoch', t) from unnest(%s) t)"
    assert db.execute(query, [Instants(seconds)]).fetchone() == (seconds,)


@pytest.mark.parametrize("texts", [[], [""], ["a", 'b "c"\\', "{,}", "null", "ä𝄞", "\n\t"]])
def test_texts_are_an_array_of_text(db: psycopg.Connection, texts: list[str]) -> None:
    assert db.execute("select %s", [Texts(texts)]).fetchone() == (texts,)
