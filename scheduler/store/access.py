"""Tokens at rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

Connection = AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class Token:
    name: str
    scopes: frozenset[str]
    apps: frozenset[str] | None


async def token_of(conn: Connection, digest: bytes) -> Token | None:
    raise NotImplementedError


async def note_use(conn: Connection, names: Sequence[str]) -> None:
    raise NotImplementedError


async def first_token(conn: Connection) -> str | None:
    raise NotImplementedError
