"""OpenTelemetry in our services: set up by its own variables OTEL_*, and not at all unless they name a collector.

Spans are kept in a queue and sent by a thread of the SDK, so no run waits for a collector. One that is dead costs a
warning, and the spans that do not fit into the queue meanwhile.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from scheduler.errors import MissingExtraError
from scheduler.tracing import NAME

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

FLUSH = 3.0
"""Seconds for the last spans, when a service stops."""
# What asks for traces. The last is the switch; without it, a collector's address is one.
_ASKING = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER")

_tracer: Tracer | None = None
_close: Callable[[], None] | None = None


def tracer() -> Tracer | None:
    """What services make spans with; None, unless `start` was asked for them."""
    return _tracer


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
            from scheduler.exporting import provide  # noqa: PLC0415  an extra

            _close = provide(env)
        except Exception as error:  # noqa: BLE001  whatever is wrong with a variable, runs go on without spans
            return f"{asked} is set, and nothing is traced: {' '.join(str(error).split())}"
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
