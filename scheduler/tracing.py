"""Traces, as W3C and OpenTelemetry have them: what a run carries along, and who is told what became of it.

    enqueue (a producer span) ─▶ run.traceparent ─▶ each attempt (a consumer span, see worker.tracing) ─▶ what it calls

A `traceparent` is 55 characters that name a trace and a span in it. It travels with the run whether or not
OpenTelemetry is installed. Spans are made where it is: in a client by the client's own, in our services by what
`scheduler.telemetry` set up.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

NAME = "walclock"
TRACE_ID: ContextVar[int | None] = ContextVar("TRACE_ID", default=None)
"""The number of a trace that our services begin; None, or 0, leaves it to chance."""
_PARTS = re.compile(r"(?!ff)[0-9a-f]{2}(-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(-.*)?")
_VERSION = "00"


def well_formed(given: str | None) -> str | None:
    """A traceparent in the form of version 00; None for what is none, which W3C wants to be passed over."""
    found = _PARTS.fullmatch(given) if given else None
    if found is None or (found[2] is not None and found[0].startswith(_VERSION)):
        return None
    return _VERSION + found[1]


class Enqueuing:
    """A producer span around the writing of runs. `traceparent` is what they carry: the span's, or what was given."""

    __slots__ = ("_leave", "_span", "traceparent")

    def __init__(self, traceparent: str | None, span: Span | None = None) -> None:
        self.traceparent = traceparent
        self._span = span
        self._leave: Callable[[], None] | None = None

    def wrote(self, run: int | None = None, count: int | None = None) -> None:
        """Which run it became, or how many."""
        if self._span is None:
            return
        if run is not None:
            self._span.set_attributes({"messaging.message.id": str(run), "walclock.run_id": run})
        if count is not None:
            self._span.set_attribute("messaging.batch.message_count", count)

    def __enter__(self) -> Self:
        if self._span is not None:
            from opentelemetry import context, trace  # noqa: PLC0415  an extra

            token = context.attach(trace.set_span_in_context(self._span))
            self._leave = lambda: context.detach(token)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._span is not None and self._leave is not None:
            self._leave()
            if kind is not None:
                failed(self._span, kind.__name__, kind.__name__)  # its text may quote what was to be written
            self._span.end()


def enqueuing(app: str, queue: str | None, executor: str | None, given: str | None = None) -> Enqueuing:
    """Around the writing of runs, of one queue (None: of several). `given`: what to follow, if it is well-formed,
    instead of the span that is active here.

    OpenTelemetry is not imported for it: where nobody did, no span is active.
    """
    given = well_formed(given)
    if "opentelemetry.trace" not in sys.modules:
        return Enqueuing(given)
    from opentelemetry import trace  # noqa: PLC0415  an extra, and it is there

    where = app if queue is None else f"{app}/{queue}"
    span = trace.get_tracer(NAME).start_span(
        f"enqueue {where}",
        context=None if given is None else followed(given),
        kind=trace.SpanKind.PRODUCER,
        attributes={
            "messaging.system": NAME,
            "messaging.operation.name": "enqueue",
            "messaging.operation.type": "send",
            "messaging.destination.name": where,
            "walclock.app": app,
            **({} if queue is None else {"walclock.queue": queue}),
            **({} if executor is None else {"walclock.executor": executor}),
        },
    )
    return Enqueuing(traceparent_of(span), span)


def followed(traceparent: str) -> Context:
    """The context in which spans are children of a well-formed traceparent's."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})


def activate(traceparent: str | None) -> None:
    """Spans are children of a well-formed traceparent's from here on, in this context and where anybody makes any."""
    if traceparent is not None and "opentelemetry.trace" in sys.modules:
        from opentelemetry import context  # noqa: PLC0415

        context.attach(followed(traceparent))


def traceparent_of(span: Span) -> str | None:
    """None of a span that is none, as there are where no provider was set up."""
    about = span.get_span_context()
    if not about.is_valid:
        return None
    return f"{_VERSION}-{about.trace_id:032x}-{about.span_id:016x}-{about.trace_flags:02x}"


def failed(span: Span, kind: str, said: str) -> None:
    """The span ended with an error."""
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, said))
