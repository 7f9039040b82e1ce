"""A stand-in for an OpenTelemetry collector: OTLP over HTTP on loopback, read with OpenTelemetry's own protobuf."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.support.fleet import wait_until


@dataclass(frozen=True, slots=True)
class Span:
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    links: list[tuple[str, str]]
    attributes: dict[str, Any]
    is_error: bool
    said: str
    service: str

    @property
    def traceparent(self) -> str:
        """But for its flags."""
        return f"00-{self.trace}-{self.id}"


class Collector:
    """`bodies` is all that was posted to the path of traces, `called` the traceparents of what else was asked."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.bodies: list[bytes] = []
        self.called: list[str | None] = []

    def env(self, **more: str) -> dict[str, str]:
        """What has a process send its spans here, soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "100", **more}

    def spans(self, name: str | None = None, run: int | None = None) -> list[Span]:
        """In the order of their beginnings."""
        found: list[tuple[int, Span]] = []
        for body in list(self.bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = next(
                    one.value.string_value for one in resource.resource.attributes if one.key == "service.name"
                )
                found += [
                    (span.start_time_unix_nano, _read(span, service))
                    for scope in resource.scope_spans
                    for span in scope.spans
                ]
        return [
            span
            for _, span in sorted(found, key=lambda pair: pair[0])
            if name in (None, span.name) and run in (None, span.attributes.get("walclock.run_id"))
        ]

    def wait_for(self, count: int, name: str | None = None, run: int | None = None) -> list[Span]:
        wait_until(lambda: len(self.spans(name, run)) >= count, saying=lambda: f"there are {self.spans()}")
        return self.spans(name, run)


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                assert self.headers["Content-Type"] == "application/x-protobuf"
                collector.bodies.append(body)
            else:
                collector.called.append(self.headers.get("traceparent"))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(server.server_address[1])
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        serving.start()
        yield collector
        server.shutdown()


def _read(span: OtlpSpan, service: str) -> Span:
    return Span(
        name=span.name,
        kind=OtlpSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        attributes={one.key: _value(one.value) for one in span.attributes},
        is_error=span.status.code == Status.STATUS_CODE_ERROR,
        said=span.status.message,
        service=service,
    )


def _value(given: AnyValue) -> Any:
    return getattr(given, str(given.WhichOneof("value")))
