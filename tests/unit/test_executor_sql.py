"""SQL on a database of its own login: results, limits, settings, cancellation."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from tests.support.calls import Log, call
from tests.support.pids import until
from worker.executors import ExecutionFailed, Settings
from worker.executors.sql import BYTES, ROWS, SqlExecutor
from worker.outcome import storable

VARIABLE = "SCHEDULER_SQL_DSN_SHOP_DB"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
EXECUTOR = SqlExecutor(Settings())


@pytest.fixture
def shop(empty_dsn: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A named database, `shop-db`."""
    monkeypatch.setenv(VARIABLE, empty_dsn)
    return empty_dsn


async def run(sql: str, params: Any = None, **more: Any) -> dict[str, Any]:
    spec = {"dsn": "shop-db", "sql": sql, **({} if params is None else {"params": params})}
    return await EXECUTOR.execute(call(spec | more, traceparent=TRACEPARENT))


async def failure(spec: Any) -> ExecutionFailed:
    with pytest.raises(ExecutionFailed) as caught:
        await EXECUTOR.execute(call(spec))
    return caught.value


@pytest.mark.usefixtures("shop")
async def test_rows_are_objects_of_json() -> None:
    result = await run("select 1 as n, 'a' as t, true as b, null as x, 1.50::numeric as d, 2.5::float8 as f")
    assert result == {"rows": [{"n": 1, "t": "a", "b": True, "x": None, "d": "1.50", "f": 2.5}], "rowcount": 1}


@pytest.mark.usefixtures("shop")
async def test_what_the_server_says_on_the_way_is_logged() -> None:
    log = Log()
    raises = "raise warning 'careful'; raise notice 'of run %', current_setting('scheduler.run_id');"
    sql = f"drop table if exists nothing; do $$ begin {raises} end $$"
    await EXECUTOR.execute(call({"dsn": "shop-db", "sql": sql}, write=log))
    assert log == [
        ("notice", 'NOTICE: table "nothing" does not exist, skipping'),
        ("notice", "WARNING: careful"),
        ("notice", "NOTICE: of run 7"),
    ]


@pytest.mark.usefixtures("shop")
async def test_values_without_a_json_form_are_text() -> None:
    result = await run(
        "select timestamptz '2026-01-02 03:04:05Z' at time zone 'UTC' as at, 'infinity'::timestamptz as never,"
        " date '2026-01-02' as day, interval '1 hour' as long, '\\x00ff'::bytea as raw, '[1,2]'::jsonb as j,"
        " array[1.5, 2]::numeric[] as several, 'NaN'::float8 as nan, '{\"a\": null}'::json as o, inet '::1' as ip"
    )
    assert storable(result) is not None
    assert result["rows"] == [
        {
            "at": "2026-01-02T03:04:05",
            "never": "infinity",
            "day": "2026-01-02",
            "long": "01:00:00",
            "raw": "\\x00ff",
            "j": [1, 2],
            "several": ["1.5", "2"],
            "nan": "nan",
            "o": {"a": None},
            "ip": "::1",
        }
    ]


@pytest.mark.usefixtures("shop")
async def test_params_are_given_by_position_or_by_name() -> None:
    assert (await run("select %s::int + %s::int as n", [1, 2]))["rows"] == [{"n": 3}]
    assert (await run("select %(t)s::text as t", {"t": "'; drop table x; --"}))["rows"] == [
        {"t": "'; drop table x; --"}
    ]
    assert (await run("select %s::jsonb as j", [{"a": [1]}]))["rows"] == [{"j": {"a": [1]}}]
    assert (await run("select 2 = any(%s) as found", [[1, 2]]))["rows"] == [{"found": True}]
    assert (await run("select '100%' as t"))["rows"] == [{"t": "100%"}]


@pytest.mark.usefixtures("shop")
async def test_writing_is_committed_and_counted() -> None:
    await run("create table item (n int)")
    assert await run("insert into item select generate_series(1, 5)") == {"rows": [], "rowcount": 5}
    assert await run("update item set n = n + 1 where n > 3 returning n") == {
        "rows": [{"n": 5}, {"n": 6}],
        "rowcount": 2,
    }
    several = await run("delete from item where n = 1; select count(*) as left from item")
    assert several == {"rows": [{"left": 4}], "rowcount": 1}
    with_writing = await run("with gone as (delete from item returning n) select count(*) as gone from gone")
    assert with_writing["rows"] == [{"gone": 4}]


@pytest.mark.usefixtures("shop")
async def test_a_failure_says_what_the_server_said_and_leaves_nothing() -> None:
    await run("create table item (n int primary key)")
    error = await failure({"dsn": "shop-db", "sql": "insert into item values (1); insert into item values (1)"})
    assert str(error) == (
        '23505: duplicate key value violates unique constraint "item_pkey"\ndetail: Key (n)=(1) already exists.'
    )
    assert (await run("select count(*) as n from item"))["rows"] == [{"n": 0}]


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("transaction", [True, False])
async def test_the_statement_knows_its_run(transaction: bool) -> None:
    names = ("run_id", "attempt", "fence", "scheduled_at", "traceparent")
    columns = ", ".join(f"current_setting('scheduler.{name}') as {name}" for name in names)
    columns += ", current_setting('application_name') as app, current_setting('statement_timeout') as timeout"
    result = await run(f"select {columns}", transaction=transaction)
    assert result["rows"] == [
        {
            "run_id": "7",
            "attempt": "2",
            "fence": "42",
            "scheduled_at": "2026-03-01T04:05:06Z",
            "traceparent": TRACEPARENT,
            "app": "walclock run 7",
            "timeout": "3601s",
        }
    ]


@pytest.mark.usefixtures("shop")
async def test_what_cannot_be_in_a_transaction_can_go_without() -> None:
    assert "cannot run inside a transaction block" in str(await failure({"dsn": "shop-db", "sql": "vacuum"}))
    assert (await run("vacuum", transaction=False))["rows"] == []


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("sql", ["select g from generate_series(1, 2500) g", "/* not streamed */ table many"])
async def test_too_many_rows_are_cut_and_say_so(sql: str) -> None:
    await run("create table many as select generate_series(1, 2500) g")
    result = await run(sql)
    assert (len(result["rows"]), result["rowcount"], result["truncated"]) == (ROWS, 2500, True)


@pytest.mark.usefixtures("shop")
async def test_too_large_rows_are_cut_and_what_is_kept_can_be_stored() -> None:
    result = await run("select repeat('x', 100000) as t from generate_series(1, 20)")
    assert (len(result["rows"]), result["rowcount"], result["truncated"]) == (BYTES // 100_000, 20, True)
    assert storable(result) is not None


async def test_cancelling_ends_the_statement_and_its_connection(shop: str) -> None:
    running = asyncio.ensure_future(run("select pg_sleep(600)"))
    with psycopg.connect(shop, autocommit=True) as other:

        def seen() -> list[Any]:
            sql = "select query, state from pg_stat_activity where application_name = 'walclock run 7'"
            return other.execute(sql).fetchall()

        await until(lambda: ("select pg_sleep(600)", "active") in seen())
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(lambda: not seen())


async def test_an_unknown_name_says_which_variable_is_missing() -> None:
    error = await failure({"dsn": "not-there", "sql": "select 1"})
    assert str(error) == "unknown dsn 'not-there': this worker's environment has no SCHEDULER_SQL_DSN_NOT_THERE"


@pytest.mark.parametrize("dsn", ["postgresq://u:hush@h/d", "host=127.0.0.1 port=1 password=hush user=u"])
async def test_a_dsn_that_does_not_work_keeps_its_password(monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    monkeypatch.setenv(VARIABLE, dsn)
    error = await failure({"dsn": "shop-db", "sql": "select 1"})
    assert "dsn 'shop-db'" in str(error)
    assert "hush" not in str(error)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"dsn": "shop-db"},
        {"dsn": "shop-db", "sql": " "},
        {"dsn": "shop-db", "sql": "select\0"},
        {"dsn": "shop-db", "sql": "select 1", "params": "x"},
        {"dsn": "shop-db", "sql": "select 1", "transaction": "no"},
        {"dsn": "postgresql://elsewhere", "sql": "select 1"},
        {"dsn": None, "sql": "select 1"},
    ],
)
async def test_a_bad_spec_is_refused_for_good(spec: dict[str, Any]) -> None:
    error = await failure(spec)
    assert str(error).startswith("bad spec: ")
    assert error.outcome.final  # type: ignore[union-attr]


@pytest.mark.usefixtures("shop")
async def test_params_that_do_not_fit_are_a_clear_failure() -> None:
    error = await failure({"dsn": "shop-db", "sql": "select %s", "params": []})
    assert "1 placeholder" in str(error)
