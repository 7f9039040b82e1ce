"""SQL: `{"dsn": name, "sql", "params"}`, on the database that SCHEDULER_SQL_DSN_<NAME> of the worker points to.

Each execution has a connection and a login of its own, never the scheduler's. `params`, a list for `%s` or an object
for `%(name)s`, are sent apart from the text. All happens in one transaction, in which `scheduler.run_id`,
`scheduler.attempt`, `scheduler.scheduled_at` and `scheduler.fence` can be read with `current_setting`;
`"transaction": false` is for what PostgreSQL refuses in one, such as `vacuum`.
The result is `{rows, rowcount}`: objects, of the last statement when there are several. Reading statements are
streamed, so that a result of any size costs no memory; numbers that JSON would round (numeric) and dates are text.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
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

Row = dict[str, Any]
Connection = psycopg.AsyncConnection[Row]


class SqlExecutor:
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
            await connection.set_autocommit(not transaction)
            await _announced(connection, call, local=transaction)
            result = await _result(connection, statement, params)
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
        row_factory=dict_row,
        application_name=f"walclock run {call.run_id}",
        connect_timeout=CONNECT_TIMEOUT,
    )
    for name in AS_TEXT:
        connection.adapters.register_loader(name, TextLoader)
    for name in ("timestamp", "timestamptz"):
        connection.adapters.register_loader(name, _Iso)
    return connection


async def _announced(connection: Connection, call: Call, *, local: bool) -> None:
    settings = {
        "scheduler.run_id": str(call.run_id),
        "scheduler.attempt": str(call.attempt),
        "scheduler.scheduled_at": call.instant(),
        "scheduler.fence": str(call.fence),
        "statement_timeout": str(min(math.ceil((call.timeout + BACKSTOP) * 1000), 2**31 - 1)),
        "datestyle": "ISO",
    }
    for name, value in settings.items():
        await connection.execute("select set_config(%s, %s, %s)", (name, value, local))


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


def _reason(error: psycopg.Error) -> str:
    """`42P01: relation "x" does not exist`, and the detail and hint that came with it."""
    diag = error.diag
    if diag.message_primary is None:
        return shorten(" ".join(str(error).split()))
    parts = [f"{error.sqlstate}: {diag.message_primary}"]
    more = {"detail": diag.message_detail, "hint": diag.message_hint}
    parts += [f"{label}: {text}" for label, text in more.items() if text]
    return shorten("\n".join(parts))
