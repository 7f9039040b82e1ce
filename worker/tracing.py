"""A consumer span for each attempt, where a collector was asked for.

It is a child of the span that enqueued the run, if there was one, and has a link to it as well, which is how messaging
is written down: so the attempts of a run are next to each other, in the trace of whoever wanted it. Other runs begin a
trace of their own, one for all attempts of a fire: its number is made of the run.
"""

from __future__ import annotations

import hashlib
import re
from contextvars import Token
from typing import TYPE_CHECKING

from scheduler import telemetry
from scheduler.tracing import NAME, TRACE_ID, failed, followed, traceparent_of, well_formed
from worker.outcome import shorten
from worker.store import Report

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from worker.lease import Held

SAID = 1024
"""Bytes of an error that a span tells; history has the rest."""
_KIND = re.compile(r"[A-Za-z_]\w*(?=: |$)")
_GIVEN_UP = {"release": "released", "abandon": "abandoned"}


class Attempt:
    """The span of an attempt, which is the active one until `end`. It ends once, whoever says so first."""

    __slots__ = ("_has_ended", "_span", "_token", "traceparent")

    def __init__(self, span: Span, token: Token[Context]) -> None:
        self._span = span
        self._token = token
        self._has_ended = False
        self.traceparent = traceparent_of(span)

    def leave(self) -> None:
        """It is the active one no more; called where it was begun."""
        from opentelemetry import context  # noqa: PLC0415  an extra

        context.detach(self._token)

    def end(self, report: Report | None, ending: str | None) -> None:
        """`report` has its secrets hidden; None for a run that was given up, for the reason `ending`."""
        if self._has_ended:
            return
        self._has_ended = True
        outcome = _GIVEN_UP.get(ending or "", "given up") if report is None else report.outcome
        self._span.set_attribute("walclock.outcome", outcome)
        if report is not None and outcome in {"failed", "lost"}:
            said = (report.error or outcome).partition("\n")[0]
            kind = _KIND.match(said)
            failed(self._span, outcome if kind is None else kind[0], shorten(said, SAID))
        self._span.end()


class Spans:
    def __init__(self, tracer: Tracer, database: str | None) -> None:
        """`database` is which one it is, so that runs of two have different traces."""
        self._tracer = tracer
        self._database = database

    def begin(self, held: Held) -> Attempt:
        from opentelemetry import context, trace  # noqa: PLC0415  an extra

        row, lease = held.row, held.lease
        given = well_formed(row.traceparent)
        parent = context.Context() if given is None else followed(given)
        where = f"{lease.app}/{lease.queue}"
        attributes: dict[str, str | int | float] = {
            "messaging.system": NAME,
            "messaging.operation.name": "run",
            "messaging.operation.type": "process",
            "messaging.destination.name": where,
            "messaging.message.id": str(row.id),
            "walclock.app": lease.app,
            "walclock.queue": lease.queue,
            "walclock.executor": row.executor,
            "walclock.run_id": row.id,
            "walclock.attempt": row.attempt,
            "walclock.fence": lease.id,
            "walclock.lateness": round(max(0.0, (held.started_at or row.run_at) - row.run_at), 6),  # seconds
            **({} if row.job is None else {"walclock.job": row.job}),
        }
        number = TRACE_ID.set(self._trace_id(held) if given is None else None)
        span = self._tracer.start_span(
            f"run {row.executor}",
            context=parent,
            kind=trace.SpanKind.CONSUMER,
            links=() if given is None else (trace.Link(trace.get_current_span(parent).get_span_context()),),
            attributes=attributes,
        )
        TRACE_ID.reset(number)
        return Attempt(span, context.attach(trace.set_span_in_context(span, parent)))

    def _trace_id(self, held: Held) -> int:
        row = held.row
        name = f"{self._database}\0{held.lease.app}\0{row.id}\0{row.scheduled_at}"
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=16).digest())


def spans(database: str | None) -> Spans | None:
    """None unless spans are made in this process."""
    tracer = telemetry.tracer()
    return None if tracer is None else Spans(tracer, database)
