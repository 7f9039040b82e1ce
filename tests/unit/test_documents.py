"""Results reach PostgreSQL as the JSON that they are."""

from __future__ import annotations

import psycopg
import pytest

from worker.documents import Documents


@pytest.mark.parametrize(
    "texts", [["1"], [None], ['{"a":"\\"ä\\\\"}', None, "[]"], ["null", '"x"'], ["[" + "1," * 100_000 + "1]", "2"]]
)
def test_documents_are_an_array_of_jsonb(db: psycopg.Connection, texts: list[str | None]) -> None:
    sent = Documents([None if text is None else text.encode() for text in texts])
    query = (
        "select array(select u.d::text from unnest(%s) with ordinality u (d, n) order by u.n), %s::text[]::jsonb[] = %s"
    )
    row = db.execute(query, [sent, texts, sent]).fetchone()
    assert row is not None
    assert [text and text.replace(" ", "") for text in row[0]] == texts
    assert row[1]


def test_what_is_no_json_is_refused_by_the_database(db: psycopg.Connection) -> None:
    with pytest.raises(psycopg.DataError, match="invalid input syntax for type json"):
        db.execute("select %s", [Documents([b"{"])])
