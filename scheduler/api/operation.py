"""What the API offers, as data: the routes, the checks and the OpenAPI document all come of one table of operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from scheduler.api.access import Caller, Scope
from scheduler.api.data import Data
from scheduler.config import Settings

JSON = "application/json"


@dataclass(slots=True)
class Ask:
    """A request that was admitted, with its parts decoded: `body` and `query` are of the operation's types. `headers`
    have names in lower case.
    """

    request: Request
    headers: Mapping[str, str]
    caller: Caller
    data: Data
    settings: Settings
    path: dict[str, str]
    body: Any = None
    query: Any = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with a status of its own."""

    status: int
    content: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """`path` has the names of its parts in braces; one named `app` must be within the caller's reach.

    `scope` None: for everybody, without a token. `body`, `query` and `answer` are types that msgspec knows; without
    `body` the handler reads the request itself, if it has a body, and `reads` says of what type. What `handle` returns
    is encoded with `status`, or that of a Reply; a Response is sent as it is. `media` are the types of body that are
    taken; empty: whatever it says. `errors` are the statuses it may answer beyond those that every operation has.
    """

    method: str
    path: str
    handle: Callable[[Ask], Awaitable[Any]]
    scope: Scope | None
    summary: str
    tag: str
    body: Any = None
    reads: Any = None
    query: Any = None
    answer: Any = None
    status: int = 200
    media: tuple[str, ...] = (JSON,)
    errors: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Its `operationId`: the handler's name."""
        return self.handle.__name__  # type: ignore[attr-defined, no-any-return]
