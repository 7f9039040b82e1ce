"""A run as it is posted: what one may say of it, checked as far as that is possible without the database.

`spec` is not looked into: its bytes go on to PostgreSQL, which reads them anyway.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct, field

from scheduler.api.kinds import CENTURY, Attempts, Instant, LongName, Name, Priority, Slots
from scheduler.api.problem import Problem
from scheduler.model import SPEC_BYTES, holds_nul

_BRACE = ord("{")
_NO_SPEC = Raw(b"{}")
_OBJECT = {"type": "object", "default": {}}


class PostedRun(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False, kw_only=True):
    """A run to be enqueued. Without `run_at` and `delay` it is due at once; all counts by the database's clock."""

    executor: Annotated[Name, Meta(description="How it is executed: python, shell, http, …")]
    spec: Annotated[Raw, Meta(description="What the executor is told; at most 1 MiB.", extra_json_schema=_OBJECT)] = (
        field(default_factory=lambda: _NO_SPEC)  # not as a default, of which the OpenAPI document can make no JSON
    )
    queue: Name = "default"
    run_at: Instant | None = None
    delay: Annotated[float, Meta(ge=0, le=CENTURY, description="Seconds from now, instead of run_at.")] | None = None
    priority: Priority = 0
    unique_key: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    max_attempts: Attempts = 3
    timeout: Annotated[float, Meta(gt=0, le=CENTURY, description="Seconds.")] | None = None
    tags: list[LongName] | None = None
    concurrency_key: LongName | None = None
    concurrency_limit: Slots | None = None

    def __post_init__(self) -> None:
        # For each of 100,000 runs a second, so no more than these looks.
        spec = memoryview(self.spec)
        if spec[0] != _BRACE:
            raise ValueError("spec must be a JSON object")
        if len(spec) > SPEC_BYTES:
            raise ValueError(f"spec takes {len(spec):,} bytes, at most {SPEC_BYTES:,} are stored")
        if self.delay is not None and self.run_at is not None:
            raise ValueError("run_at and delay exclude each other")
        if self.concurrency_limit is not None and self.concurrency_key is None:
            raise ValueError("a concurrency_limit needs a concurrency_key")


_ONE = msgspec.json.Decoder(PostedRun)
_MANY = msgspec.json.Decoder(list[PostedRun])


def is_list(body: bytes) -> bool:
    return body.lstrip()[:1] == b"["


def run_in(body: bytes) -> PostedRun:
    check_text(body)
    return _ONE.decode(body)


def runs_in(body: bytes) -> list[PostedRun]:
    check_text(body)
    return _MANY.decode(body)


def runs_in_lines(lines: bytes) -> list[PostedRun]:
    """One from each line that is not empty."""
    check_text(lines)
    return _ONE.decode_lines(lines)


def check_text(body: bytes) -> None:
    """Problem 400 for what JSON may hold and PostgreSQL does not store. UnicodeDecodeError."""
    if not body.isascii():
        body.decode()
    if b"\\u0000" in body and holds_nul(body.decode()):
        raise Problem(400, "a text holds a NUL character, which PostgreSQL does not store")


def row_of(app: bytes, run: PostedRun, traceparent: str | None) -> bytes:
    """A JSON object for `scheduler.store.insert`; `app` is JSON text, and a traceparent needs no escapes."""
    if traceparent is not None:
        app += b',"traceparent":"' + traceparent.encode() + b'"'
    return b'{"app":' + app + b"," + msgspec.json.encode(run)[1:]
