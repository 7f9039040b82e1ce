"""Who asks: the bearer of a token, what it may do, and in which apps.

A token is looked up by its SHA-256 and remembered for REMEMBERED seconds, so that a revoked one is refused everywhere
within five. What a caller may not reach looks as if it were not there, and what a token's scope does not cover is
refused before anything is looked up: neither tells a stranger what exists.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scheduler import tokens
from scheduler.api.data import Data
from scheduler.api.pace import Pace
from scheduler.api.problem import Problem
from scheduler.loopback import asks_loopback
from scheduler.store import access

Scope = Literal["read", "write", "work", "admin"]
REMEMBERED = 2.0
_MOST_REMEMBERED = 10_000
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="walclock"'}


@dataclass(frozen=True, slots=True)
class Caller:
    """`name` is what the audit log says; `apps` None is all of them."""

    name: str
    scopes: frozenset[str]
    apps: frozenset[str] | None = None

    def reaches(self, app: str) -> bool:
        return self.apps is None or app in self.apps

    def ensure_reaches(self, app: str) -> None:
        """Problem 404, the same for an app that is there and for one that is not."""
        if not self.reaches(app):
            raise Problem(404, f"there is no app {app}")

    @property
    def among(self) -> list[str] | None:
        """The apps that it may see, for a query; None: all of them."""
        return None if self.apps is None else sorted(self.apps)


ANYONE = Caller("without a token", frozenset(tokens.SCOPES))
"""Who calls where no token is asked for: on loopback, with --http-no-auth."""


class Access:
    def __init__(self, data: Data, *, is_open: bool = False, rate: float = 0) -> None:
        """`is_open`: everybody may do everything. `rate`: requests a second of one token; 0: any number."""
        self._data = data
        self._is_open = is_open
        self._known: dict[bytes, tuple[float, Caller | None]] = {}
        self._used: set[str] = set()
        self._pace = Pace(rate)

    async def admit(self, headers: Mapping[str, str]) -> Caller:
        """Who asks. Problem 401 without a token, or with one that is unknown, expired or revoked; where none is asked
        for, 421 unless the request is meant for loopback. 429 when the token asks too often.
        """
        if self._is_open:
            _ensure_loopback(headers.get("host", ""))
            await self._pace.keep(ANYONE.name)
            return ANYONE
        token = _token(headers.get("authorization", ""))
        if token is None:
            raise Problem(401, "a token is needed: Authorization: Bearer sched_…", headers=_CHALLENGE)
        caller = await self._caller(tokens.digest(token)) if tokens.looks_right(token) else None
        if caller is None:
            raise Problem(401, "this token is unknown, expired or revoked", headers=_CHALLENGE)
        self._used.add(caller.name)
        await self._pace.keep(caller.name)
        return caller

    async def note_use(self) -> None:
        """Write down which tokens were used; to be called once in a while."""
        used, self._used = self._used, set()
        if used:
            async with self._data.reading() as conn:
                await access.note_use(conn, sorted(used))

    async def _caller(self, digest: bytes) -> Caller | None:
        now = time.monotonic()
        until, caller = self._known.get(digest, (0.0, None))
        if now < until:
            return caller
        async with self._data.reading() as conn:
            found = await access.token_of(conn, digest)
        caller = None if found is None else Caller(found.name, found.scopes, found.apps)
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[digest] = (now + REMEMBERED, caller)
        return caller


def _ensure_loopback(host: str) -> None:
    if not asks_loopback(host):
        raise Problem(421, "without tokens this answers for localhost, 127.0.0.1 and [::1] only, by the header Host")


def _token(header: str) -> str | None:
    """Of `Bearer TOKEN`; or the password of `Basic`, for clients that know nothing but URLs with a password."""
    kind, _, value = header.partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None
