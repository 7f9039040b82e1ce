"""Where spans go, as the variables OTEL_* say. Imported only where they say something: it is an extra."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from scheduler.tracing import NAME, TRACE_ID

log = logging.getLogger(__name__)

_QUEUE = (
    "opentelemetry.sdk._shared_internal"  # says that the queue is full; were it called otherwise, it says so itself
)


def provide(env: Mapping[str, str]) -> Callable[[], None]:
    """Set a provider up for this process; what ends it. An exception says what is wrong with a variable."""
    is_named = env.get("OTEL_SERVICE_NAME") or "service.name=" in env.get("OTEL_RESOURCE_ATTRIBUTES", "")
    resource = Resource.create({} if is_named else {"service.name": NAME})
    # Not closed at exit by itself: with a dead collector that takes half a minute.
    provider = TracerProvider(resource=resource, id_generator=_Numbers(), shutdown_on_exit=False)
    for exporter in _exporters(env):
        provider.add_span_processor(BatchSpanProcessor(_Watched(exporter)))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def _exporters(env: Mapping[str, str]) -> list[SpanExporter]:
    """As OTEL_TRACES_EXPORTER names them; `otlp` speaks HTTP unless OTEL_EXPORTER_OTLP_PROTOCOL says grpc."""
    protocol = env.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or env.get("OTEL_EXPORTER_OTLP_PROTOCOL") or ""
    otlp = "otlp_proto_grpc" if protocol.strip() == "grpc" else "otlp_proto_http"
    known = {point.name: point for point in entry_points(group="opentelemetry_traces_exporter")}
    made: list[SpanExporter] = []
    for word in (env.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp").split(","):
        name = otlp if word.strip() == "otlp" else word.strip()
        if name not in known:
            raise LookupError(f"no installed package has the exporter {name!r}; there is {', '.join(sorted(known))}")
        made.append(known[name].load()())
    return made


class _Numbers(RandomIdGenerator):
    def generate_trace_id(self) -> int:
        return TRACE_ID.get() or super().generate_trace_id()


class _Watched(SpanExporter):
    """An exporter of whose outages one warning tells. By itself it logs two for each batch and try."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._is_failing = False
        for name in (type(exporter).__module__, _QUEUE):
            theirs = logging.getLogger(name)
            theirs.propagate = False
            theirs.addHandler(_Reasons(self.say))

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001  it may be anybody's
            self.say(str(error))
            return SpanExportResult.FAILURE
        if result is SpanExportResult.FAILURE:
            self.say("the exporter does not say why")
        elif self._is_failing:
            self._is_failing = False
            log.info("spans are taken again")
        return result

    def say(self, why: str) -> None:
        if not self._is_failing:
            self._is_failing = True
            # A collector's address may have a key in its query.
            log.warning("spans cannot be sent, and are dropped until they can: %s", re.sub(r"\?[^\s)]*", "?***", why))

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class _Reasons(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())
