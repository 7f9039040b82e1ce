"""SQL: `{"dsn": name, "sql", "params"}`, on the database that SCHEDULER_SQL_DSN_<NAME> of the worker points to.

Each execution has a connection and a login of its own, never the scheduler's: a login that is, or may become, the owner
of the scheduler's tables is refused. `params`, a list for `%s` or an object
for `%(name)s`, are sent apart from the text. All happens in one transaction, in which `scheduler.run_id`,
`scheduler.attempt`, `scheduler.scheduled_at`, `scheduler.fence` and `scheduler.traceparent` (empty: it has none) can
be read with `current_setting`;
`"transaction": false` is for what PostgreSQL refuses in one, such as `vacuum`. A statement that ends the transaction by
itself fails: what followed ran without its limits, and what came before cannot be taken back.
The result is `{rows, rowcount}`: objects, of the last statement when there are several. Reading statements are
streamed, so that a result of any size costs no memory; numbers that JSON would round (numeric) and dates are text.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import AsyncIterator
from typing import Any, LiteralString

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg.types.string import TextLoader

from worker.context import Call
from worker.executors import ExecutionFailed, Settings
from worker.named import variable
from worker.outcome import RESULT_LIMIT, shorten

ROWS = 1000
BYTES = RESULT_LIMIT - 4096  # of rows: the rest of the result needs room too
CONNECT_TIMEOUT = 10  # seconds
BACKSTOP = 1.0  # seconds the server waits longer than the worker, which cancels by itself unless it died
# Only these are streamed: what writes has a row count of its own, which a stream does not tell, and several statements
# cannot be streamed. A word in a string literal is taken for the real one, which costs memory, not correctness.
READS = re.compile(
    r"\s*(select|with|values|table)\b(?!.*\b(insert|update|delete|merge|into)\b)(?!.*;\s*\S)", re.IGNORECASE | re.DOTALL
)
AS_TEXT = ("numeric", "date", "time", "timetz", "interval", "uuid", "bytea", "inet", "cidr", "money", "oid")

ENDED_ITSELF = (
    "the statement ended its transaction by itself, which was not undone: leave out commit and rollback, "
    'or say "transaction": false'
)
# One round trip. Behind a pooler it holds for one transaction, elsewhere for the session, whatever a statement ends.
ANNOUNCED: LiteralString = """
    select s.login, s.is_pooled,
        exists (
            select from pg_catalog.pg_class c
            join pg_catalog.pg_namespace n on n.oid = c.relnamespace
            where n.nspname = 'scheduler' and c.relname = 'lease'
                and pg_catalog.pg_has_role(s.login, c.relowner, 'member')
        ) as owns,
        pg_catalog.set_config('scheduler.run_id', %(run_id)s, s.is_pooled) as run_id,
        pg_catalog.set_config('scheduler.attempt', %(attempt)s, s.is_pooled) as attempt,
        pg_catalog.set_config('scheduler.scheduled_at', %(instant)s, s.is_pooled) as instant,
        pg_catalog.set_config('scheduler.fence', %(fence)s, s.is_pooled) as fence,
        pg_catalog.set_config('scheduler.traceparent', %(traceparent)s, s.is_pooled) as traceparent,
        pg_catalog.set_config('statement_timeout', %(timeout)s, s.is_pooled) as timeout,
        pg_catalog.set_config('datestyle', 'ISO', s.is_pooled) as datestyle
    from (select session_user as login, pg_catalog.pg_backend_pid() <> %(pid)s::int as is_pooled) s
"""
TIDY: tuple[LiteralString, ...] = (
    "close all",
    "unlisten *",
    "select pg_catalog.pg_advisory_unlock_all()",
    "discard temp",
    "discard sequences",
    "deallocate all",
    "reset session authorization",
    "reset all",
)

Row = dict[str, Any]
Connection = psycopg.AsyncConnection[Row]


class SqlExecutor:
    secret_places = ("params",)  # the text of a statement is in pg_stat_activity and in the server's log

    def __init__(self, settings: Settings) -> None:
        """Nothing is kept between executions, so nothing of one run reaches another."""

    async def execute(self, call: Call) -> dict[str, Any]:
        """`{rows, rowcount}`, with `truncated` when rows were cut; ExecutionFailed with the server's words."""
        statement, params, transaction = _parsed(call.spec)
        try:
            connection = await _connected(call)
        except psycopg.Error as error:
            raise ExecutionFailed(f"cannot connect to dsn {call.spec['dsn']!r}: {_reason(error)}") from error
        try:
            is_pooled = await _announced(connection, call)
            await connection.set_autocommit(not transaction)
            if is_pooled and transaction:
                await _announced(connection, call)
            result = await _result(connection, statement, params)
            if transaction and connection.info.transaction_status != TransactionStatus.INTRANS:
                raise ExecutionFailed(ENDED_ITSELF, final=True)
            if is_pooled and transaction:
                await _tidied(connection)
            await connection.commit()
        except psycopg.Error as error:
            raise ExecutionFailed(_reason(error)) from error
        finally:
            await connection.close()
        return result

    async def close(self) -> None:
        pass


class _Iso(Loader):
    """PostgreSQL's own text with a T: it knows `infinity` and years that Python's datetime does not."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode().replace(" ", "T", 1)


def dsn(name: object) -> str:
    """The connection string of a name in a spec; ExecutionFailed names the variable it should be in."""
    where = variable("SCHEDULER_SQL_DSN", "dsn", name)
    if not os.environ.get(where):
        raise ExecutionFailed(f"unknown dsn {name!r}: this worker's environment has no {where}")
    return os.environ[where]


def _parsed(spec: dict[str, Any]) -> tuple[str, Any, bool]:
    statement, params, transaction = spec.get("sql"), spec.get("params"), spec.get("transaction", True)
    if not isinstance(statement, str) or not statement.strip() or "\0" in statement:
        raise ExecutionFailed('bad spec: "sql" must be a statement', final=True)
    if not isinstance(transaction, bool):
        raise ExecutionFailed('bad spec: "transaction" must be true or false', final=True)
    if isinstance(params, dict):
        return statement, {name: _param(value) for name, value in params.items()}, transaction
    if isinstance(params, list):
        return statement, [_param(value) for value in params], transaction
    if params is not None:
        raise ExecutionFailed('bad spec: "params" must be an array or an object', final=True)
    return statement, None, transaction


def _param(value: Any) -> Any:
    """Objects go as jsonb, and so do arrays that are not a plain PostgreSQL array."""
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict | list) for item in value)):
        return Jsonb(value)
    return value


async def _connected(call: Call) -> Connection:
    conninfo = dsn(call.spec.get("dsn"))
    try:
        psycopg.conninfo.conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:  # its text quotes the string, password and all
        raise ExecutionFailed(f"dsn {call.spec['dsn']!r} is not a connection string PostgreSQL understands") from None
    connection: Connection = await psycopg.AsyncConnection.connect(
        conninfo,
        autocommit=True,  # until it is told which run it is: that must not be undone by a rollback
        row_factory=dict_row,
        application_name=f"walclock run {call.run_id}",
        connect_timeout=CONNECT_TIMEOUT,
    )
    connection.add_notice_handler(lambda notice: call.log("notice", _noticed(notice)))
    for name in AS_TEXT:
        connection.adapters.register_loader(name, TextLoader)
    for name in ("timestamp", "timestamptz"):
        connection.adapters.register_loader(name, _Iso)
    return connection


async def _announced(connection: Connection, call: Call) -> bool:
    """Say which run it is; whether it leads through a pooler, where only a transaction is ours, and is told in it.

    ExecutionFailed for a login that the scheduler's own tables are open to, whatever the statement says: `set role` and
    `reset role` make one of the other.
    """
    cursor = await connection.execute(
        ANNOUNCED,
        {
            "run_id": str(call.run_id),
            "attempt": str(call.attempt),
            "instant": call.instant(),
            "fence": str(call.fence),
            "traceparent": call.traceparent or "",
            "timeout": str(min(math.ceil((call.timeout + BACKSTOP) * 1000), 2**31 - 1)),
            "pid": connection.info.backend_pid,
        },
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101  a query without a table
    if row["owns"]:
        raise ExecutionFailed(
            f"dsn {call.spec['dsn']!r} logs in as {row['login']!r}, who owns the scheduler's own tables: "
            "give it a login of its own",
            final=True,
        )
    return bool(row["is_pooled"])


async def _tidied(connection: Connection) -> None:
    """Leave nothing to whoever gets this backend of the pooler next. DISCARD ALL cannot be in a transaction.

    After a failure nothing is to be done: the pooler ends a backend whose client goes away in a transaction.
    """
    for statement in TIDY:
        await connection.execute(statement)


async def _result(connection: Connection, statement: str, params: Any) -> dict[str, Any]:
    cursor = connection.cursor()
    if READS.match(statement):
        size = 100 if psycopg.capabilities.has_stream_chunked() else 1
        rows, count, cut = await _kept(cursor.stream(statement.encode(), params, size=size))
    else:
        await cursor.execute(statement.encode(), params)
        while cursor.nextset():
            pass
        rows, _, cut = await _kept(aiter(cursor)) if cursor.description else ([], 0, False)
        count = cursor.rowcount
    return {"rows": rows, "rowcount": count} | ({"truncated": True} if cut else {})


async def _kept(source: AsyncIterator[Row]) -> tuple[list[Row], int, bool]:
    """The first rows that fit, how many there were, and whether some did not. Reads to the end: rows may do work."""
    rows: list[Row] = []
    count = room = 0
    cut = False
    async for row in source:
        count += 1
        if cut or count > ROWS:
            cut = True
            continue
        plain = {name: _finite(value) for name, value in row.items()}
        room += len(json.dumps(plain, ensure_ascii=False).encode()) + 1
        if room > BYTES:
            cut = True
        else:
            rows.append(plain)
    return rows, count, cut


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return [_finite(item) for item in value] if isinstance(value, list) else value


def _noticed(notice: psycopg.errors.Diagnostic) -> str:
    """`NOTICE: table "x" does not exist, skipping`: what `raise notice` and the server say on the way."""
    return shorten(f"{notice.severity_nonlocalized}: {notice.message_primary}")


def _reason(error: psycopg.Error) -> str:
    """`42P01: relation "x" does not exist`, and the detail and hint that came with it."""
    diag = error.diag
    if diag.message_primary is None:
        return shorten(" ".join(str(error).split()))
    parts = [f"{error.sqlstate}: {diag.message_primary}"]
    more = {"detail": diag.message_detail, "hint": diag.message_hint}
    parts += [f"{label}: {text}" for label, text in more.items() if text]
    return shorten("\n".join(parts))
