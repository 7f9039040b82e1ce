"""Who may use the HTTP API: tokens, by their hash. One function per SQL function, of the same name, and their list.

A token itself never comes here, but for the first one, which is made here and given back once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from scheduler.tokens import SHOWN, digest, implied, new_token

Connection = AsyncConnection[Any]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Token:
    """What a token may do: `scopes`, with all that they imply (see `scheduler.tokens.implied`), and in which apps.

    `apps` None: in all of them, and where no app is meant.
    """

    name: str
    scopes: frozenset[str]
    apps: frozenset[str] | None

    def may(self, scope: str, app: str | None = None) -> bool:
        """Whether it has the scope in the app; without one, for what belongs to no app or to all of them."""
        return scope in self.scopes and (self.apps is None or app in self.apps)


_TOKENS: LiteralString = """
    select t.id, t.name, t.prefix, t.scopes, t.apps, t.created_at, t.expires_at, t.last_used_at, t.revoked_at,
        case
            when t.revoked_at is not null then 'revoked'
            when t.expires_at <= scheduler.clock() then 'expired'
            else 'live'
        end as state
    from scheduler.token t
    where t.id < %(before)s and (%(gone)s or t.revoked_at is null)
    order by t.id desc
    limit %(limit)s
"""
_LAST_ID = 2**63 - 1


async def create_token(  # noqa: PLR0917  the columns of a row, in their order
    conn: Connection,
    name: str,
    digest: bytes,
    prefix: str,
    scopes: Sequence[str],
    apps: Sequence[str] | None,
    expires_at: datetime | None,
) -> None:
    """Writes down a token that the caller shows once; `prefix` is its first characters, `apps` None: all apps.

    ConflictError: the name is taken. InvalidError: it would have expired already, or a scope is none.
    """
    await conn.execute(
        "select scheduler.create_token(%s::text, %s::bytea, %s::text, %s::text[], %s::text[], %s::timestamptz)",
        (name, digest, prefix, list(scopes), None if apps is None else list(apps), expires_at),
    )


async def token_of(conn: Connection, digest: bytes) -> Token | None:
    """None: the token is unknown, expired or revoked."""
    cursor = await conn.execute("select t.name, t.scopes, t.apps from scheduler.token_of(%s::bytea) t", (digest,))
    row = await cursor.fetchone()
    if row is None:
        return None
    name, scopes, apps = row
    return Token(name, implied(scopes), None if apps is None else frozenset(apps))


async def note_use(conn: Connection, names: Sequence[str]) -> None:
    """That these tokens are in use. Call it as often as you like: of each token, one call in a minute writes."""
    await conn.execute("select scheduler.note_use(%s::text[])", (list(names),))


async def revoke_token(conn: Connection, name: str) -> None:
    """NotFoundError when no such token is in use."""
    await conn.execute("select scheduler.revoke_token(%s::text)", (name,))


async def first_token(conn: Connection) -> str | None:
    """An admin token where there never was a token, to be shown once. None, for all but one of those who ask."""
    token = new_token()
    cursor = await conn.execute("select scheduler.first_token(%s::bytea, %s::text)", (digest(token), token[:SHOWN]))
    row = await cursor.fetchone()
    return token if row and row[0] else None


async def tokens(conn: Connection, *, gone: bool = False, before: int | None = None, limit: int = 100) -> list[Row]:
    """Tokens, the latest first, never with their hash; with `gone` the revoked ones too. `before`: an id."""
    parameters = {"gone": gone, "before": _LAST_ID if before is None else before, "limit": limit}
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_TOKENS, parameters)
        return await cursor.fetchall()
