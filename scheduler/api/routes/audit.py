"""Who changed what, and whether that account is whole: for admins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict

import msgspec
from starlette.responses import Response, StreamingResponse

from scheduler.api import rows
from scheduler.api.kinds import LAST_ID, Instant
from scheduler.api.operation import NDJSON, Ask, Operation
from scheduler.api.paging import MORE, Limit, Next, page
from scheduler.store import audit
from scheduler.store.audit import Head, Verdict

_Number = Annotated[int, msgspec.Meta(ge=0, le=LAST_ID)]
_Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", description="A head that was kept: 64 hex digits.")]


class OfAll(msgspec.Struct, forbid_unknown_fields=True):
    since: Annotated[Instant | None, msgspec.Meta(description="Only changes from this instant on.")] = None
    before_app: Annotated[str | None, msgspec.Meta(description="Only changes before this app's …")] = None
    before_n: Annotated[_Number, msgspec.Meta(description="… of this number.")] = LAST_ID
    limit: Limit = 100


class OfApp(msgspec.Struct, forbid_unknown_fields=True):
    object: Annotated[str | None, msgspec.Meta(description="Only of this one, like `job nightly` or `run 17`.")] = None
    since: Annotated[Instant | None, msgspec.Meta(description="Only changes from this instant on.")] = None
    before_n: Annotated[_Number, msgspec.Meta(description="Only changes with a smaller number.")] = LAST_ID
    limit: Limit = 100


class Kept(msgspec.Struct, forbid_unknown_fields=True):
    head: _Hash | None = None


class Entry(TypedDict):
    """A change. `role` is who logged in to the database, `actor` what the session said of itself: `token NAME`."""

    app: str
    n: int
    at: rows.Instant
    role: str
    actor: str | None
    action: str
    object: str
    before: Any
    after: Any
    hash: str


class Entries(msgspec.Struct):
    entries: list[Entry]
    next: Next


class Chain(msgspec.Struct):
    """Where an app's chain ends. Keep `head` elsewhere: a later verification can be told that it must be there."""

    app: str
    entries: int | None
    head: str | None


class Found(msgspec.Struct):
    """What is wrong with entries `n` to `last`; `was`: the number of the one that is in another's place."""

    app: str
    n: int
    last: int
    finding: str
    was: int | None


class Verification(msgspec.Struct):
    ok: bool
    heads: list[Chain]
    findings: list[Found]


async def list_audit(ask: Ask) -> Entries:
    query: OfAll = ask.query
    before = None if query.before_app is None else (query.before_app, query.before_n)
    async with ask.data.reading() as conn:
        found = await audit.entries(conn, since=query.since, before=before, limit=query.limit + MORE)
    return Entries(*page(ask, found, before_app="app", before_n="n"))


async def list_audit_of_app(ask: Ask) -> Entries:
    query: OfApp = ask.query
    app = ask.path["app"]
    async with ask.data.reading() as conn:
        found = await audit.entries(
            conn,
            app=app,
            object_=query.object,
            since=query.since,
            before=(app, query.before_n),
            limit=query.limit + MORE,
        )
    return Entries(*page(ask, found, before_n="n"))


async def verify_audit(ask: Ask) -> Verification:
    async with ask.data.reading() as conn:
        return _verified(await audit.verify(conn))


async def verify_audit_of_app(ask: Ask) -> Verification:
    kept = None if ask.query.head is None else bytes.fromhex(ask.query.head)
    async with ask.data.reading() as conn:
        return _verified(await audit.verify(conn, app=ask.path["app"], kept=kept))


async def export_audit(ask: Ask) -> Response:
    return await _exported(ask, None)


async def export_audit_of_app(ask: Ask) -> Response:
    return await _exported(ask, ask.path["app"])


async def _exported(ask: Ask, app: str | None) -> Response:
    async with ask.data.reading() as conn:
        heads = await audit.audit_heads(conn, app)
    return StreamingResponse(_lines(ask, heads), media_type=NDJSON)


async def _lines(ask: Ask, heads: list[Head]) -> AsyncIterator[bytes]:
    for head in heads:
        async with ask.data.reading() as conn:
            async for line in audit.lines(conn, head):
                yield line.encode() + b"\n"
        yield msgspec.json.encode(_chain(head)) + b"\n"


def _verified(verdict: Verdict) -> Verification:
    findings = [Found(one.app, one.n, one.last, one.finding, one.was) for one in verdict.findings]
    return Verification(not findings, [_chain(head) for head in verdict.heads], findings)


def _chain(head: Head) -> Chain:
    return Chain(head.app, head.entries, None if head.hash is None else head.hash.hex())


OPERATIONS = (
    Operation(
        method="GET",
        path="/api/v1/audit",
        handle=list_audit,
        scope="admin",
        everywhere=True,
        summary="Who changed what, the latest first.",
        tag="audit",
        query=OfAll,
        answer=Entries,
    ),
    Operation(
        method="GET",
        path="/api/v1/audit/verification",
        handle=verify_audit,
        scope="admin",
        everywhere=True,
        summary="Compute the hashes of all changes anew, and name each that was edited, deleted, moved or cut off.",
        tag="audit",
        answer=Verification,
    ),
    Operation(
        method="GET",
        path="/api/v1/audit/export",
        handle=export_audit,
        scope="admin",
        everywhere=True,
        summary="All changes in their order, a JSON object per line, and behind those of an app its head.",
        tag="audit",
        answer=Entry,
        sends=NDJSON,
    ),
    Operation(
        method="GET",
        path="/api/v1/apps/{app}/audit",
        handle=list_audit_of_app,
        scope="admin",
        summary="Who changed what of an app, the latest first.",
        tag="audit",
        query=OfApp,
        answer=Entries,
    ),
    Operation(
        method="GET",
        path="/api/v1/apps/{app}/audit/verification",
        handle=verify_audit_of_app,
        scope="admin",
        summary="As the verification of all, of one app; with a head that was kept, the chain must lead through it.",
        tag="audit",
        query=Kept,
        answer=Verification,
    ),
    Operation(
        method="GET",
        path="/api/v1/apps/{app}/audit/export",
        handle=export_audit_of_app,
        scope="admin",
        summary="The changes of an app in their order, a JSON object per line, and behind them its head.",
        tag="audit",
        answer=Entry,
        sends=NDJSON,
    ),
)
