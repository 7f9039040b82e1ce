"""Who changed what: lists, the lines of an export, and whether anybody has tampered with the account.

Each app has a chain of its own; entries are numbered from 1, and each holds the hash of the one before. What belongs to
no app is in the chain of ''.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import LiteralString

import psycopg

from scheduler.store.watch.reading import BY_KEY, Connection, Row, read

_ALL = 2**63 - 1
_PAGE = 100  # lines of an export at a time; one may have 2 MiB
_FIRST, _MOST = 1_000, 50_000  # entries of a verification's step …
_STEP = 0.5  # … which is to take so many seconds, far below any statement timeout

_COLUMNS: LiteralString = """
    select a.app, a.n, a.at, a.role, a.actor, a.action, a.object, a.before, a.after, encode(a.hash, 'hex') as hash
"""
_OF_ALL: LiteralString = """
    from scheduler.audit a
    where a.at >= %(since)s
    order by a.at desc, a.app desc, a.n desc
    limit %(limit)s
"""
_OF_ALL_BEFORE: LiteralString = """
    from (select b.at, b.app, b.n from scheduler.audit b where b.app = %(before_app)s and b.n = %(before_n)s) b
    cross join lateral (
        select * from scheduler.audit a
        where (a.at, a.app, a.n) < (b.at, b.app, b.n) and a.at >= %(since)s
        order by a.at desc, a.app desc, a.n desc
        limit %(limit)s
    ) a
"""
# Instants of a chain never go back, so those that are too old are at the end of the page: it is cut, not searched for.
_OF_APP: LiteralString = """
    from (
        select * from scheduler.audit a
        where a.app = %(app)s and a.n < %(before_n)s
        order by a.app desc, a.n desc
        limit %(limit)s
    ) a
    where a.at >= %(since)s
"""
_OF_OBJECT: LiteralString = """
    from (
        select * from scheduler.audit a
        where a.app = %(app)s and a.object = %(object)s and a.n < %(before_n)s
        order by a.app desc, a.object desc, a.n desc
        limit %(limit)s
    ) a
    where a.at >= %(since)s
"""
_HEADS: LiteralString = "select h.app, h.n, h.hash, h.last_n, h.last_hash from scheduler.audit_heads(%(app)s) h"
_VERIFY: LiteralString = """
    select v.n, v.last_n, v.finding, v.was
    from scheduler.verify_audit(%(app)s, %(first)s::bigint, %(last)s::bigint, %(kept)s::bytea) v
"""
_LINES: LiteralString = """
    select a.n, scheduler.audit_line(
        a.app, a.n, a.at, a.role, a.actor, a.action, a.object, a.before, a.after, a.previous
    )
    from scheduler.audit a
    where a.app = %(app)s and a.n > %(after)s and a.n <= %(last)s
    order by a.app, a.n
    limit %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ends: by its head (`entries` None: there is none), and by its last entry (`last` None: none)."""

    app: str
    entries: int | None
    hash: bytes | None
    last: int | None
    last_hash: bytes | None


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with entries `n` to `last` of an app.

    `edited`, `rewritten` (with its hash), `reordered` (it is entry `was`), `deleted`, `truncated` (deleted at the end),
    `added` (behind the head), `unknown head` (no entry has the hash that was kept).
    """

    app: str
    n: int
    last: int
    finding: str
    was: int | None = None


@dataclass(slots=True)
class Verdict:
    heads: list[Head]
    findings: list[Finding] = field(default_factory=list)


async def entries(
    conn: Connection,
    *,
    app: str | None = None,
    object_: str | None = None,
    since: datetime | None = None,
    before: tuple[str, int] | None = None,
    limit: int,
) -> list[Row]:
    """The latest first; of an app in the order of its chain. `object_` needs an app; `before` is an entry."""
    if app is None:
        query = _COLUMNS + (_OF_ALL if before is None else _OF_ALL_BEFORE)
    else:
        query = _COLUMNS + (_OF_APP if object_ is None else _OF_OBJECT)
    before_app, before_n = before or ("", _ALL)
    parameters = {
        "app": app, "object": object_, "since": since or "-infinity", "before_app": before_app, "before_n": before_n,
        "limit": limit,
    }  # fmt: skip
    return await read(conn, query, parameters)


async def audit_heads(conn: Connection, app: str | None = None) -> list[Head]:
    """Of all chains, or of one; none where nothing was ever changed."""
    return [Head(*row) for row in await (await conn.execute(_HEADS, {"app": app})).fetchall()]


async def lines(conn: Connection, head: Head) -> AsyncIterator[str]:
    """The entries of a chain up to its head, in their order, each as the line that its hash was computed of."""
    after = 0
    while head.entries is not None and after < head.entries:
        parameters = {"app": head.app, "after": after, "last": head.entries, "limit": _PAGE}
        async with conn.transaction():
            await conn.execute(BY_KEY)
            page = await (await conn.execute(_LINES, parameters)).fetchall()
        for _, line in page:
            yield line
        if not page:
            return
        after = page[-1][0]


async def verify(
    conn: Connection,
    *,
    app: str | None = None,
    kept: bytes | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Compute all hashes anew, in steps. `kept`: the hash of a head from earlier, which the chain must lead through.

    `progress` is told how many entries are done, of how many. What is added meanwhile is not looked at.
    """
    heads = await audit_heads(conn, app)
    verdict = Verdict(heads)
    total, done, is_known = sum(head.entries or 0 for head in heads), 0, kept is None
    for head in heads:
        async for last, found in _steps(conn, head, kept):
            is_known |= any(one.finding == "kept" for one in found)
            verdict.findings += (one for one in found if one.finding != "kept")
            if progress is not None:
                progress(done + last, total)
        verdict.findings += _of_head(head, verdict.findings)
        done += head.entries or 0
    verdict.findings = _joined(verdict)
    if not is_known:
        verdict.findings.append(Finding(app or "", 0, 0, "unknown head"))
    return verdict


async def _steps(conn: Connection, head: Head, kept: bytes | None) -> AsyncIterator[tuple[int, list[Finding]]]:
    """The last entry of each step, and what was found in it. A step that took too long is done in smaller ones."""
    first, size = 1, _FIRST
    while head.entries is not None and first <= head.entries:
        last = min(first + size - 1, head.entries)
        parameters = {"app": head.app, "first": first, "last": last, "kept": kept}
        began = time.monotonic()
        try:
            rows = await (await conn.execute(_VERIFY, parameters)).fetchall()
        except psycopg.errors.QueryCanceled:
            if size == 1:
                raise
            size = max(size // 10, 1)
            continue
        took = time.monotonic() - began
        yield last, [Finding(head.app, *row) for row in rows]
        first = last + 1
        size = max(min(int(size * min(_STEP / max(took, 0.001), 4)), _MOST), 1)


def _of_head(head: Head, found: list[Finding]) -> list[Finding]:
    """What only shows beside the head: entries behind it, and a last entry that was rewritten with its hash."""
    entries = head.entries or 0
    if head.last is not None and head.last > entries:
        return [Finding(head.app, entries + 1, head.last, "added")]
    known = {one.n for one in found if one.app == head.app}
    if head.last == entries and head.last_hash != head.hash and entries not in known:
        return [Finding(head.app, entries, entries, "rewritten")]
    return []


def _joined(verdict: Verdict) -> list[Finding]:
    """In order; what was deleted on both sides of a step's border as one, and at the end of a chain as what it is."""
    ends = {head.app: head.entries for head in verdict.heads}
    joined: list[Finding] = []
    for one in sorted(verdict.findings, key=lambda one: (one.app, one.n, one.finding)):
        previous = joined[-1] if joined else None
        if (
            previous is not None
            and (previous.app, previous.finding, one.finding) == (one.app, "deleted", "deleted")
            and previous.last + 1 == one.n
        ):
            joined[-1] = Finding(one.app, previous.n, one.last, "deleted")
        elif one not in joined[-1:]:
            joined.append(one)
    for index, one in enumerate(joined):
        if one.finding == "deleted" and one.last == ends[one.app]:
            joined[index] = Finding(one.app, one.n, one.last, "truncated")
    return joined
