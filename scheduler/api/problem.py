"""What goes wrong, as RFC 9457 has it: `{"type", "title", "status", "detail"}`, one line for a person, no traceback."""

from __future__ import annotations

import logging
from http import HTTPStatus

import msgspec
import psycopg
from psycopg_pool import PoolTimeout
from starlette.responses import Response

from scheduler.errors import (
    ConfigError,
    ConflictError,
    InvalidError,
    LeaseLostError,
    NotFoundError,
    ReadOnlyError,
    SchedulerError,
    SchemaError,
)
from scheduler.store.refusal import explained

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (InvalidError, 400),
    (msgspec.ValidationError, 400),
    (msgspec.DecodeError, 400),
    (RecursionError, 400),
    (UnicodeDecodeError, 400),
    (NotFoundError, 404),
    (ConflictError, 409),
    (LeaseLostError, 410),
    (ReadOnlyError, 503),
    (ConfigError, 503),
    (SchemaError, 503),
    (PoolTimeout, 503),
    (psycopg.OperationalError, 503),
    (TimeoutError, 503),
    (OSError, 503),
    (SchedulerError, 400),
)
_AWAY = "the database cannot be reached now, or is too busy to answer"
RETRY_AFTER = "1"  # seconds, of 503


class Body(msgspec.Struct, omit_defaults=True):
    """The answer to a request that failed."""

    title: str
    status: int
    detail: str | None = None
    hint: str | None = None
    type: str = "about:blank"


class Problem(Exception):  # noqa: N818  it is an answer
    """An answer that says what was wrong with the request. `headers` go along."""

    def __init__(
        self, status: int, detail: str, *, hint: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.body = Body(title=HTTPStatus(status).phrase, status=status, detail=detail, hint=hint)
        self.headers = headers or {}

    def response(self) -> Response:
        return Response(
            msgspec.json.encode(self.body), status_code=self.body.status, headers=self.headers, media_type=MEDIA_TYPE
        )


def problem_of(error: Exception) -> Problem:
    """The answer to a request that raised it. What nobody foresaw is logged, and answered without a word about it."""
    if isinstance(error, Problem):
        return error
    known: Exception = error
    if isinstance(error, psycopg.Error):
        known = explained(error) or error
    for kind, status in _STATUS:
        if isinstance(known, kind):
            return _known(known, status)
    log.error("a request failed", exc_info=error)
    return Problem(500, "something failed here that nobody foresaw; the server's log says more")


def _known(error: Exception, status: int) -> Problem:
    if status == 503 and not isinstance(error, SchemaError):  # noqa: PLR2004  whose words may name hosts and users
        log.warning("a request was refused: %s", " ".join(str(error).split()))
        return Problem(status, _AWAY, headers={"Retry-After": RETRY_AFTER})
    if isinstance(error, SchedulerError):
        return Problem(status, str(error.args[0]), hint=error.hint)
    if isinstance(error, RecursionError):
        return Problem(status, "the body is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return Problem(status, "the body is not UTF-8")
    return Problem(status, str(error))
