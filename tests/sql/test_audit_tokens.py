"""Tokens in the audit: in the chains of the apps they are for, and never what they could be recognised by."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg

from tests.support.builders import rows

INSERT: LiteralString = """
    insert into scheduler.token (name, prefix, scopes, apps, created_at, hash)
    values ('deploy', 'sched_ab', '{read}', %s, now(), sha256('the token'))
"""
ENTRIES: LiteralString = """
    select a.app, a.action, a.object, a.before, a.after from scheduler.audit a order by a.app, a.n
"""


def entries(db: psycopg.Connection) -> list[tuple[Any, ...]]:
    return rows(db, ENTRIES)


def test_a_token_for_all_apps_is_in_the_chain_of_none(db: psycopg.Connection) -> None:
    db.execute(INSERT, [None])
    ((app, action, what, before, after),) = entries(db)
    assert (app, action, what, before) == ("", "create", "token deploy", None)
    assert (after["prefix"], after["scopes"], after["apps"]) == ("sched_ab", ["read"], None)


def test_a_token_of_some_apps_is_in_the_chain_of_each_before_and_after(db: psycopg.Connection) -> None:
    db.execute(INSERT, [["a", "b"]])
    db.execute("update scheduler.token set apps = '{b,c}'")
    assert [(app, action) for app, action, *_ in entries(db)] == [
        ("a", "create"), ("a", "edit"), ("b", "create"), ("b", "edit"), ("c", "edit"),
    ]  # fmt: skip
    assert entries(db)[-1][3:] == ({"apps": ["a", "b"]}, {"apps": ["b", "c"]})


def test_a_revocation_and_a_removal_are_kept_and_a_use_is_not(db: psycopg.Connection) -> None:
    db.execute(INSERT, [None])
    db.execute("update scheduler.token set last_used_at = now()")
    db.execute("update scheduler.token set revoked_at = now(), last_used_at = now()")
    db.execute("delete from scheduler.token")
    assert [action for _, action, *_ in entries(db)] == ["create", "revoke", "remove"]
    assert set(entries(db)[1][4]) == {"revoked_at"}


def test_a_hash_that_is_exchanged_is_kept_without_the_hash(db: psycopg.Connection) -> None:
    db.execute(INSERT, [None])
    db.execute("update scheduler.token set hash = sha256('another')")
    assert [action for _, action, *_ in entries(db)] == ["create", "edit"]
    hashes = rows(db, "select encode(sha256('another'), 'hex'), encode(sha256('the token'), 'hex')")[0]
    text = str(rows(db, "select a::text from scheduler.audit a"))
    assert not any(each in text for each in (*hashes, "hash", "last_used_at"))
