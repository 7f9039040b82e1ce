"""What the API offers, as data: the routes, the checks and the OpenAPI document all come of one table of operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from scheduler.api.access import Caller, Scope
from scheduler.api.data import Data
from scheduler.config import Settings
from scheduler.metrics.exposition import Exposition

JSON = "application/json"
NDJSON = "application/x-ndjson"
Complaint = Callable[[], str | None]
"""What keeps the process from its work, in a line; None: nothing."""


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
    complaint: Complaint
    exposition: Exposition
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

    `app`: the one that it is about, where its path names none. `scope` None: for everybody, without a token.
    `everywhere`: only for a token that reaches every app. `body`, `query` and `answer` are types that msgspec knows;
    without `body` the handler reads the request itself, if it has a body. What `handle` returns is encoded with
    `status`, or that of a Reply; a Response is sent as it is. `media` are the types of body that are taken; empty:
    whatever it says. `errors` are the statuses it may answer beyond those that every operation has.

    For the document alone: `reads`, the type of a body that the handler reads itself; `example`, of a body; `sends`,
    the media type of the answer; `also`, other statuses of success; `conditions`, the headers that it looks at.
    """

    method: str
    path: str
    handle: Callable[[Ask], Awaitable[Any]]
    scope: Scope | None
    summary: str
    tag: str
    app: str | None = None
    body: Any = None
    query: Any = None
    answer: Any = None
    status: int = 200
    media: tuple[str, ...] = (JSON,)
    errors: tuple[int, ...] = ()
    everywhere: bool = False
    body_may_lack: bool = False
    reads: Any = None
    example: Any = None
    sends: str = JSON
    also: tuple[int, ...] = ()
    conditions: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its `operationId`: the handler's name."""
        return self.handle.__name__
