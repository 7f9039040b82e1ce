"""What the executors of commands read in a spec, and say of a bad one. Values of an environment are never shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.context import Call
from worker.outcome import ExecutionFailed, shorten

SHOWN = 200  # bytes of a value in an error text


def about(call: Call) -> dict[str, str]:
    """The environment that tells a command which run it is."""
    return {
        "SCHEDULER_RUN_ID": str(call.run_id),
        "SCHEDULER_ATTEMPT": str(call.attempt),
        "SCHEDULER_SCHEDULED_AT": call.instant(),
        "SCHEDULER_FENCE": str(call.fence),
    }


def trace(call: Call) -> dict[str, str]:
    """The environment that tells a command which trace it belongs to, if any. A spec may say something else."""
    return {} if call.traceparent is None else {"TRACEPARENT": call.traceparent}


def environment(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise _secret(f'"environment" must be an object of strings, not {_kind(given)}')
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise _secret(f'"environment": {name!r} must be a string, not {_kind(value)}')
        if not name or "=" in name or "\0" in name or "\0" in str(value):
            raise _secret(f'"environment": {name!r} cannot be set: an empty name, "=" in it, or a NUL character')
    return {name: str(value) for name, value in given.items()}


def text(spec: Mapping[str, Any], key: str, *, nul: bool = False) -> str | None:
    value = spec.get(key)
    if value is not None and (not isinstance(value, str) or ("\0" in value and not nul)):
        # stdin may hold a secret
        raise _secret(f'"{key}" must be a string without NUL characters, not {_kind(value)}')
    return value


def bad(what: str, value: object) -> ExecutionFailed:
    """A spec that no other attempt makes better."""
    return ExecutionFailed(f"bad spec: {what}, not {shorten(repr(value), SHOWN)}", final=True)


def _secret(what: str) -> ExecutionFailed:
    return ExecutionFailed(f"bad spec: {what}", final=True)


def _kind(value: object) -> str:
    names = {type(None): "null", bool: "a boolean", list: "an array", dict: "an object", str: "a string"}
    return names.get(type(value), "a number")
