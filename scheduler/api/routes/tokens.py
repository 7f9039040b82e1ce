"""Who may use the API: tokens are listed, made and revoked by an admin of all apps.

With less than all apps one could make oneself a token that reaches more.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, TypedDict

import msgspec
from starlette.responses import Response

from scheduler.api import rows
from scheduler.api.access import Scope
from scheduler.api.kinds import CENTURY, Instant, Name
from scheduler.api.operation import Ask, Operation
from scheduler.api.paging import MORE, BeforeId, Limit, Next, page
from scheduler.errors import InvalidError
from scheduler.store import access, watch
from scheduler.tokens import SHOWN, digest, new_token


class Filters(msgspec.Struct, forbid_unknown_fields=True):
    gone: Annotated[bool, msgspec.Meta(description="Revoked ones too.")] = msgspec.field(default=False, name="all")
    before_id: BeforeId | None = None
    limit: Limit = 100


class TokenRow(TypedDict):
    """A token in a list: never the token itself. `apps` null: all of them. `state`: live, expired or revoked."""

    id: int
    name: str
    prefix: str
    scopes: list[str]
    apps: list[str] | None
    created_at: rows.Instant
    expires_at: rows.Instant | None
    last_used_at: rows.Instant | None
    revoked_at: rows.Instant | None
    state: str


class Tokens(msgspec.Struct):
    tokens: list[TokenRow]
    next: Next


class TokenBody(msgspec.Struct, forbid_unknown_fields=True):
    """`apps` null: all of them. Without `expires_at` and `expires_in`, in seconds, it does not expire."""

    name: Name
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1, max_length=10)]
    apps: Annotated[list[Name], msgspec.Meta(min_length=1, max_length=1_000)] | None = None
    expires_at: Instant | None = None
    expires_in: Annotated[float, msgspec.Meta(ge=1, le=CENTURY)] | None = None


class NewToken(msgspec.Struct):
    """`token` is shown this once."""

    token: str
    name: str
    scopes: list[str]
    apps: list[str] | None
    expires_at: datetime | None


async def list_tokens(ask: Ask) -> Tokens:
    query: Filters = ask.query
    async with ask.data.reading() as conn:
        found = await access.tokens(conn, gone=query.gone, before=query.before_id, limit=query.limit + MORE)
    return Tokens(*page(ask, found, before_id="id"))


async def create_token(ask: Ask) -> NewToken:
    body: TokenBody = ask.body
    if body.expires_at is not None and body.expires_in is not None:
        raise InvalidError("expires_at and expires_in exclude each other")
    text = new_token()
    scopes = sorted(set(body.scopes))
    async with ask.data.changing(ask.caller) as conn:
        at = body.expires_at
        if body.expires_in is not None:  # by the database's clock, which is the one that ends it
            at = await watch.clock(conn) + timedelta(seconds=body.expires_in)
        await access.create_token(conn, body.name, digest(text), text[:SHOWN], scopes, body.apps, at)
    return NewToken(text, body.name, list(scopes), body.apps, at)


async def revoke_token(ask: Ask) -> Response:
    async with ask.data.changing(ask.caller) as conn:
        await access.revoke_token(conn, ask.path["token"])
    return Response(status_code=204)


OPERATIONS = (
    Operation(
        method="GET",
        path="/api/v1/tokens",
        handle=list_tokens,
        scope="admin",
        everywhere=True,
        summary="The tokens, the latest first: each by its name and first characters, and when it was last used.",
        tag="tokens",
        query=Filters,
        answer=Tokens,
    ),
    Operation(
        method="POST",
        path="/api/v1/tokens",
        handle=create_token,
        scope="admin",
        everywhere=True,
        summary="Make a token. It is shown this once: what is kept of it is a hash.",
        tag="tokens",
        body=TokenBody,
        answer=NewToken,
        status=201,
        errors=(409,),
        example={"name": "ci", "scopes": ["write"], "apps": ["shop"], "expires_in": 7776000},
    ),
    Operation(
        method="DELETE",
        path="/api/v1/tokens/{token}",
        handle=revoke_token,
        scope="admin",
        everywhere=True,
        summary="End a token: servers refuse it within 5 seconds. Its name is free for another.",
        tag="tokens",
        status=204,
    ),
)
