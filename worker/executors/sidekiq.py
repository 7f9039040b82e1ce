"""Jobs for Sidekiq: `{"class", "args", "queue", "at", "retry", "tags", "redis"}`.

What Sidekiq's own client writes into Redis is written here, so that a Ruby process executes the job: into the list of
its queue, or into the set of scheduled jobs when `at` (seconds since the epoch, or an instant in ISO 8601) is to come.
The run succeeds when Redis has it; what Ruby makes of it is Sidekiq's. The result is `{jid, queue}`, and `at` if it is
scheduled.

Delivery is at least once, as everywhere. The jid is made of app and run id, so all attempts of a run have the same one
and a job can see that it was there before. Beside what Sidekiq demands the job carries `scheduler_run_id`,
`scheduler_attempt`, `scheduler_scheduled_at`, `scheduler_fence` and `traceparent`, which its middleware can read.

Where Redis is stands in the worker's environment, SCHEDULER_REDIS_URL; `"redis": "<name>"` means that of
SCHEDULER_REDIS_URL_<NAME>.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from datetime import datetime
from typing import Any

from scheduler.errors import ConfigError, MissingExtraError
from worker.context import Call
from worker.executors import ExecutionFailed, Settings
from worker.headers import traceparent
from worker.named import variable
from worker.outcome import encoded, shorten

try:
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ReadOnlyError, RedisError, ResponseError
except ImportError:
    raise MissingExtraError("the sidekiq executor", "redis") from None

URL = "SCHEDULER_REDIS_URL"
VERSION = "SCHEDULER_SIDEKIQ_VERSION"
LATEST = 8
CONNECTIONS = 10  # a job takes one for a round trip
PATIENCE = 10.0  # seconds to connect, and for an answer
CLASS = re.compile(r"[A-Z]\w*(::[A-Z]\w*)*")
LAST = 253_402_300_799  # the end of the year 9999: what is larger was meant in milliseconds
SHOWN = 200  # bytes of a value in an error text

Job = dict[str, Any]


class SidekiqExecutor:
    """One pool of connections for each name of a Redis, opened when it is first used."""

    secret_places = ("args",)

    def __init__(self, _: Settings) -> None:
        """ConfigError when the environment has no Redis, or a version that is no number."""
        if not any(name.startswith(URL) and os.environ[name] for name in os.environ):
            raise ConfigError("the sidekiq executor does not know where Redis is", hint=f"{URL}=redis://host:6379/0")
        version = os.environ.get(VERSION) or str(LATEST)
        if not (version.isascii() and version.isdigit()):
            raise ConfigError(f"{VERSION}={version!r}: expected the major version of Sidekiq, like {LATEST}")
        self._milliseconds = int(version) >= LATEST
        self._opened: dict[str, Redis] = {}

    async def execute(self, call: Call) -> Job:
        """`{jid, queue}` or `{jid, queue, at}`; ExecutionFailed with Redis' reason."""
        job, at = _job(call)
        name = call.spec.get("redis")
        where = URL if name is None else variable(URL, "redis", name)
        redis = self._opened.get(where) or self._open(where, name)
        now = time.time()
        job["created_at"] = self._stamp(now)
        try:
            if at is not None and at > now:
                await _twice(redis, ("ZADD", "schedule", repr(at), encoded(job)))
                return {"jid": job["jid"], "queue": job["queue"], "at": at}
            job["enqueued_at"] = self._stamp(now)
            queue = job["queue"]
            await _twice(redis, ("SADD", "queues", queue), ("LPUSH", f"queue:{queue}", encoded(job)))
        except RedisError as error:
            raise ExecutionFailed(f"Redis of {where}: {_reason(error)}") from None
        return {"jid": job["jid"], "queue": queue}

    async def close(self) -> None:
        for redis in self._opened.values():
            await redis.aclose(close_connection_pool=True)

    def _open(self, where: str, name: object) -> Redis:
        url = os.environ.get(where)
        if not url:
            whose = "" if name is None else f"unknown redis {name!r}: "
            raise ExecutionFailed(f"{whose}this worker's environment has no {where}")
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=None,  # the run's own is the limit
                socket_connect_timeout=PATIENCE,
                socket_timeout=PATIENCE,
                retry=Retry(NoBackoff(), 0),  # the run is tried again; after a lost answer nobody knows more here
            )
        except (ValueError, TypeError):  # whose text may quote a part of the password
            raise ExecutionFailed(f"{where} is no URL of a Redis, like redis://host:6379/0") from None
        redis = self._opened[where] = Redis(connection_pool=pool)
        return redis

    def _stamp(self, now: float) -> float:
        """An instant as Sidekiq writes it: since version 8 in whole milliseconds, before in seconds."""
        return int(now * 1000) if self._milliseconds else now


async def _twice(redis: Redis, *commands: tuple[str | bytes, ...]) -> None:
    """All in one transaction; once more, on new connections, when a replica answered or a primary without replicas.

    After a failover the old primary is a replica, which refuses all writes while the connection to it lives on.
    """
    try:
        await _together(redis, commands)
    except ResponseError as error:
        if not isinstance(error, ReadOnlyError) and not re.search("NOREPLICAS|UNBLOCKED", str(error)):
            raise
        await redis.connection_pool.disconnect(inuse_connections=False)
        await _together(redis, commands)


async def _together(redis: Redis, commands: tuple[tuple[str | bytes, ...], ...]) -> None:
    async with redis.pipeline(transaction=True) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        await pipeline.execute()


def _job(call: Call) -> tuple[Job, float | None]:
    """What Sidekiq reads, but for its instants, and when it is to be done, if the spec says so."""
    spec = call.spec
    name, args, queue = spec.get("class"), spec.get("args", []), spec.get("queue", "default")
    retry, tags = spec.get("retry", True), spec.get("tags")
    if not isinstance(name, str) or not CLASS.fullmatch(name):
        raise _bad('"class" must be the name of a Ruby class', name)
    if not isinstance(args, list):
        raise _bad('"args" must be an array', args)
    if not isinstance(queue, str) or not queue or not queue.isprintable() or " " in queue:
        raise _bad('"queue" must be a name without spaces', queue)
    if not isinstance(retry, int) or retry < 0:
        raise _bad('"retry" must be true, false or a number of retries', retry)
    job = {
        "class": name,
        "args": args,
        "jid": hashlib.sha256(f"{call.app}\0{call.run_id}".encode()).hexdigest()[:24],
        "queue": queue,
        "retry": retry,
        "scheduler_run_id": call.run_id,
        "scheduler_attempt": call.attempt,
        "scheduler_scheduled_at": call.instant(),
        "scheduler_fence": call.fence,
        "traceparent": traceparent(call),
    }
    if tags is not None:
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise _bad('"tags" must be an array of strings', tags)
        job["tags"] = tags
    return job, _at(spec.get("at"))


def _at(given: Any) -> float | None:
    if given is None:
        return None
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given <= LAST:
        return float(given)
    if isinstance(given, str):
        try:
            instant = datetime.fromisoformat(given)
        except ValueError:
            instant = None
        if instant is not None and instant.utcoffset() is not None:
            return instant.timestamp()
    raise _bad('"at" must be in seconds since the epoch, or an instant like 2026-11-01T05:30:00Z', given)


def _reason(error: RedisError) -> str:
    """In a line, and without the job that redis-py quotes."""
    text = " ".join(str(error).rpartition(" of pipeline caused error: ")[2].split()).strip("(),'\"")
    return shorten(text or type(error).__name__, 2 * SHOWN)


def _bad(what: str, value: object) -> ExecutionFailed:
    return ExecutionFailed(f"bad spec: {what}, not {shorten(repr(value), SHOWN)}", final=True)
