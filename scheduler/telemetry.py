"""OpenTelemetry in our services: set up by its own variables OTEL_*, and not at all unless they name a collector.

Spans are kept in a queue and sent by a thread of the SDK, so no run waits for a collector. One that is dead costs a
warning, and the spans that do not fit into the queue meanwhile.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING

from scheduler.errors import MissingExtraError
from scheduler.tracing import NAME

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer

log = logging.getLogger(__name__)

FLUSH = 3.0
"""Seconds for the last spans, when a service stops."""
# What asks for traces. The last is the switch; without it, a collector's address is one.
_ASKING = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER")

_tracer: Tracer | None = None
_close: Callable[[], None] | None = None
_trace_id: ContextVar[int | None] = ContextVar("trace_id", default=None)


def tracer() -> Tracer | None:
    """What services make spans with; None, unless `start` was asked for them."""
    return _tracer


@contextmanager
def trace_id(number: int | None) -> Iterator[None]:
    """A trace that is begun inside has this number; None, or 0, leaves it to chance."""
    token = _trace_id.set(number)
    try:
        yield
    finally:
        _trace_id.reset(token)


def start(env: Mapping[str, str] = os.environ) -> str | None:
    """Send spans from here on, if the variables OTEL_* ask for it. Returns what keeps it from doing so, in a line.

    A program that brings a provider of its own, as `opentelemetry-instrument` does, keeps it.
    """
    global _tracer, _close  # noqa: PLW0603  one for the process, as OpenTelemetry's own provider is
    asked = _asked(env)
    if asked is None or _tracer is not None:
        return None
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        return f"{asked} is set, and nothing is traced: {MissingExtraError('tracing', 'otel')}"
    from opentelemetry import trace  # noqa: PLC0415  an extra

    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        try:
            _close = _provided(env)
        except Exception as error:  # noqa: BLE001  whatever is wrong with a variable, runs go on without spans
            return f"{asked} is set, and nothing is traced: {error}"
    _tracer = trace.get_tracer(NAME)
    return None


def close() -> None:
    """Send the last spans, for FLUSH seconds at most."""
    global _tracer, _close  # noqa: PLW0603
    _tracer, last = None, _close
    _close = None
    if last is not None:
        # In a thread: for a dead collector it waits half a minute.
        closing = threading.Thread(target=last, name="last spans", daemon=True)
        closing.start()
        closing.join(FLUSH)


def _asked(env: Mapping[str, str]) -> str | None:
    """The variable that asks for traces."""
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if env.get(_ASKING[-1], "").strip().lower() == "none":
        return None
    return next((name for name in _ASKING if env.get(name, "").strip()), None)


def _provided(env: Mapping[str, str]) -> Callable[[], None]:
    """Set a provider up for this process; what ends it."""
    from opentelemetry import trace  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415

    class Numbers(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return _trace_id.get() or super().generate_trace_id()

    is_named = env.get("OTEL_SERVICE_NAME") or "service.name=" in env.get("OTEL_RESOURCE_ATTRIBUTES", "")
    resource = Resource.create({} if is_named else {"service.name": NAME})
    # Not closed at exit by itself: with a dead collector that takes half a minute.
    provider = TracerProvider(resource=resource, id_generator=Numbers(), shutdown_on_exit=False)
    for exporter in _exporters(env):
        provider.add_span_processor(BatchSpanProcessor(_told_once(exporter)))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def _exporters(env: Mapping[str, str]) -> list[SpanExporter]:
    """As OTEL_TRACES_EXPORTER names them; `otlp` speaks HTTP unless OTEL_EXPORTER_OTLP_PROTOCOL says grpc."""
    protocol = env.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or env.get("OTEL_EXPORTER_OTLP_PROTOCOL") or ""
    otlp = "otlp_proto_grpc" if protocol.strip() == "grpc" else "otlp_proto_http"
    known = {point.name: point for point in entry_points(group="opentelemetry_traces_exporter")}
    made: list[SpanExporter] = []
    for word in (env.get(_ASKING[-1], "").strip() or "otlp").split(","):
        name = otlp if word.strip() == "otlp" else word.strip()
        if name not in known:
            raise LookupError(f"no installed package has the exporter {name!r}; there is {', '.join(sorted(known))}")
        made.append(known[name].load()())
    return made


def _told_once(exporter: SpanExporter) -> SpanExporter:
    """The exporter, of whose outages one warning tells. By itself it logs two for each batch and try."""
    from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult  # noqa: PLC0415

    class Watched(SpanExporter):
        is_failing = False

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            try:
                result = exporter.export(spans)
            except Exception as error:  # noqa: BLE001  it may be anybody's
                self.say(str(error))
                return SpanExportResult.FAILURE
            if result is SpanExportResult.FAILURE:
                self.say("the exporter does not say why")
            elif self.is_failing:
                self.is_failing = False
                log.info("spans are taken again")
            return result

        def say(self, why: str) -> None:
            if not self.is_failing:
                self.is_failing = True
                # A collector's address may have a key in its query.
                why = re.sub(r"\?[^\s)]*", "?***", why)
                log.warning("spans cannot be sent, and are dropped until they can: %s", why)

        def shutdown(self) -> None:
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return exporter.force_flush(timeout_millis)

    watched = Watched()

    class Reasons(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            watched.say(record.getMessage())

    theirs = logging.getLogger(type(exporter).__module__)
    theirs.propagate = False
    theirs.addHandler(Reasons(logging.WARNING))
    return watched
