"""What the answers hold, for the document: the rows of `store.watch`, which the command line's `--json` shows too."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

import msgspec

Instant = Annotated[str, msgspec.Meta(description="ISO 8601 in UTC.", examples=["2026-11-01T05:30:00Z"])]
Seconds = Annotated[float, msgspec.Meta(description="In seconds.")]


class App(TypedDict):
    """`pending` and `jobs` are counted up to 1,000. `server`, `epoch` and `address`: its owner, null without one."""

    app: str
    paused_at: Instant | None
    pending: int
    pending_is_at_least: bool
    oldest_due_at: Instant | None
    running: int
    jobs: int
    jobs_is_at_least: bool
    server: int | None
    epoch: int | None
    address: str | None


class Owner(TypedDict):
    """The server that plans an app, and where it is reached."""

    server: int
    epoch: int
    address: str | None
    label: str
    host: str


class Queue(TypedDict):
    """`keyed`: how many of the pending runs have a concurrency key. `taken`: slots in use. `late`: in seconds."""

    app: str
    queue: str
    pending: int
    pending_is_at_least: bool
    running: int
    next_run_at: Instant | None
    concurrency_limit: int | None
    rate_limit: int | None
    rate_interval: Seconds | None
    taken: int
    keyed: int
    keyed_is_at_least: bool
    late: Seconds | None
    workers: int


class Pulse(TypedDict):
    """The worker that fires a job of a short period from its own timer."""

    worker: int | None
    fence: int | None
    taken_at: str | None
    reported_at: str | None


class JobRow(TypedDict):
    """A definition in a list, with what is known of its past and future."""

    app: str
    name: str
    schedule: str | None
    timezone: str
    executor: str
    queue: str
    priority: int
    max_attempts: int
    timeout: Seconds | None
    retry_delay: Seconds | None
    retry_max_delay: Seconds | None
    overlap: str
    misfire: str
    misfire_grace: Seconds | None
    misfire_limit: int
    dst_gap: str
    dst_fold: str
    jitter: Seconds | None
    starts_at: Instant | None
    ends_at: Instant | None
    paused_at: Instant | None
    tags: list[str]
    concurrency_key: str | None
    concurrency_limit: int | None
    created_at: Instant
    updated_at: Instant
    app_paused_at: Instant | None
    error: str | None
    last_run: int | None
    last_outcome: str | None
    last_finished_at: Instant | None
    pulse: Pulse | None
    last_result: Any
    last_error: str | None
    state: str
    next_at: Instant | None


class Job(JobRow):
    """A definition, in full."""

    spec: Any


class RunState(TypedDict):
    """Which run it is, and how it stands."""

    app: str
    id: int
    job: str | None
    queue: str
    executor: str
    state: str
    attempt: int
    max_attempts: int
    priority: int
    run_at: Instant
    scheduled_at: Instant | None
    started_at: Instant | None
    finished_at: Instant | None
    worker: int | None
    fence: int | None


class RunRow(RunState):
    """A run in a list."""

    unique_key: str | None
    tags: list[str] | None
    error: str | None


class Attempt(TypedDict):
    attempt: int
    outcome: str
    started_at: Instant | None
    finished_at: Instant
    retry_at: Instant | None
    worker: int | None
    fence: int | None
    error: str | None
    result: Any


class Run(RunRow):
    """A run in full."""

    spec: Any
    result: Any
    concurrency_key: str | None
    concurrency_limit: int | None
    traceparent: str | None
    attempts: list[Attempt]


class Reason(TypedDict):
    """`text`: a sentence; `remedy`: what can be done about it; `facts`: what it rests on, which differs by `code`."""

    code: str
    text: str
    remedy: str | None
    facts: dict[str, Any]


class Event(TypedDict):
    """Of a run's timeline."""

    at: Instant
    what: str
    attempt: int | None
    worker: int | None
    label: str | None
    fence: int | None
    by: str | None
    text: str | None
    retry_at: Instant | None


class Why(RunState):
    """Why a run has not started yet, or how it went. `expected_at` null: not foreseeable."""

    now: Instant
    reasons: list[Reason]
    expected_at: Instant | None
    queue_rate: float | None
    timeline: list[Event]


class LogLine(TypedDict):
    attempt: int
    line: int
    at: Instant
    stream: str
    text: str


class Process(TypedDict):
    id: int
    label: str
    host: str
    pid: int
    version: str
    started_at: Instant
    seen_at: Instant
    stopped_at: Instant | None
    dead_at: Instant | None
    state: str
    silent_for: Seconds


class Server(Process):
    """`apps`: how many it owns."""

    address: str | None
    apps: int


class Worker(Process):
    """`apps` and `queues` null: all of them. `running`: runs that it has begun."""

    apps: list[str] | None
    queues: list[str] | None
    executors: list[str]
    concurrency: int
    running: int
