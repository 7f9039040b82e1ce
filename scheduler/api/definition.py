"""A job as a request brings it, and the job of the database's side that it becomes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from scheduler.model import NewJob, encode_spec, seconds
from scheduler.shape import check_shape

_DAY = 86_400
_MOST = 36_500 * _DAY
_SMALL = 32_767

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Wait = Annotated[float, msgspec.Meta(ge=0, le=_MOST, description="In seconds.")]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
SCHEDULE = msgspec.Meta(
    min_length=1,
    max_length=500,
    description="Five or six cron fields, `@daily` …, `@every 1h30m` or `@after 30s`; null: on demand.",
    extra_json_schema={"format": "schedule"},
)
ZONE = msgspec.Meta(description="An IANA name.", extra_json_schema={"format": "timezone"})


class JobBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A definition without its app and name, which are in the path. Durations are numbers of seconds."""

    executor: Text
    spec: Annotated[dict[str, Any], msgspec.Meta(description="What the executor needs; at most 1 MiB.")]
    schedule: Annotated[str, SCHEDULE] | None = None
    timezone: Annotated[str, ZONE] = "UTC"
    queue: Text = "default"
    priority: Annotated[int, msgspec.Meta(ge=-_SMALL - 1, le=_SMALL, description="Lower goes first.")] = 0
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=_SMALL, description="Tries of each run in all.")] = 3
    timeout: Annotated[float, msgspec.Meta(ge=0.001, le=_MOST, description="Of one attempt, in seconds.")] = 3600.0
    retry_delay: Wait = 5.0
    retry_max_delay: Wait = 3600.0
    overlap: Literal["allow", "skip", "queue", "replace"] = "skip"
    misfire: Literal["skip", "one", "all"] = "one"
    misfire_grace: Wait = float(_DAY)
    misfire_limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    dst_gap: Literal["after", "skip"] = "after"
    dst_fold: Literal["first", "second", "both"] = "first"
    jitter: Wait | None = None
    starts_at: Instant | None = None
    ends_at: Instant | None = None
    paused: Annotated[
        bool, msgspec.Meta(description="Add it paused. A paused job that is replaced stays so, whatever this says.")
    ] = False
    tags: list[Annotated[str, msgspec.Meta(min_length=1, max_length=200)]] = []
    concurrency_key: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    concurrency_limit: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None


class NamedJobBody(JobBody, kw_only=True):
    """A definition without its app, which is in the path. Durations are numbers of seconds."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


_DURATIONS = ("timeout", "retry_delay", "retry_max_delay", "misfire_grace", "jitter")


def defined(app: str, name: str, body: JobBody) -> NewJob:
    """InvalidError when it is none, with what would be right."""
    given = {**msgspec.structs.asdict(body), "app": app, "name": name, "spec": encode_spec(body.spec)}
    given |= {key: seconds(given[key], key) for key in _DURATIONS}
    job = NewJob(**given)
    check_shape(body.executor, body.spec)
    return job
