"""A job as a request brings it, and the job of the database's side that it becomes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from scheduler.api.kinds import (
    CENTURY,
    DAY,
    SCHEDULE,
    ZONE,
    Attempts,
    Instant,
    LongName,
    Name,
    Priority,
    Seconds,
    Slots,
)
from scheduler.model import NewJob, encode_spec, seconds
from scheduler.shape import check_shape


class JobBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A definition without its app and name, which are in the path. Durations are numbers of seconds."""

    executor: Name
    spec: Annotated[dict[str, Any], msgspec.Meta(description="What the executor needs; at most 1 MiB.")]
    schedule: Annotated[str, SCHEDULE] | None = None
    timezone: Annotated[str, ZONE] = "UTC"
    queue: Name = "default"
    priority: Priority = 0
    max_attempts: Annotated[Attempts, msgspec.Meta(description="Tries of each run in all.")] = 3
    timeout: Annotated[float, msgspec.Meta(ge=0.001, le=CENTURY, description="Of one attempt, in seconds.")] = 3600.0
    retry_delay: Seconds = 5.0
    retry_max_delay: Seconds = 3600.0
    overlap: Literal["allow", "skip", "queue", "replace"] = "skip"
    misfire: Literal["skip", "one", "all"] = "one"
    misfire_grace: Seconds = float(DAY)
    misfire_limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    dst_gap: Literal["after", "skip"] = "after"
    dst_fold: Literal["first", "second", "both"] = "first"
    jitter: Seconds | None = None
    starts_at: Instant | None = None
    ends_at: Instant | None = None
    paused: Annotated[
        bool, msgspec.Meta(description="Add it paused. A paused job that is replaced stays so, whatever this says.")
    ] = False
    tags: list[LongName] = []
    concurrency_key: LongName | None = None
    concurrency_limit: Slots | None = None


class NamedJobBody(JobBody, kw_only=True):
    """A definition without its app, which is in the path. Durations are numbers of seconds."""

    name: LongName


_DURATIONS = ("timeout", "retry_delay", "retry_max_delay", "misfire_grace", "jitter")


def defined(app: str, name: str, body: JobBody) -> NewJob:
    """InvalidError when it is none, with what would be right."""
    given = {**msgspec.structs.asdict(body), "app": app, "name": name, "spec": encode_spec(body.spec)}
    given |= {key: seconds(given[key], key) for key in _DURATIONS}
    job = NewJob(**given)
    check_shape(body.executor, body.spec)
    return job
