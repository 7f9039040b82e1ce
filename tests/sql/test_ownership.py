"""Which server plans which app: one that lives, by weight, with few moves; and nobody else's plan counts."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import LiteralString

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from tests.support.builders import APP, a_plan, add_job, add_run, add_server, column, one, own, rows
from tests.support.clock import Clock
from tests.support.jobs import FakeWorker, busy_at_its_next_instant, plan_once, schedule

NOON = "2030-01-01T12:00:00+00:00"
SOON = "2030-01-01T12:00:05+00:00"
DEAD_AFTER = timedelta(seconds=5)
ASSIGN: LiteralString = "select a.moved from scheduler.assign_apps(null, %s) a"
LOSE: LiteralString = "select a.moved from scheduler.assign_apps(%s) a"
FIRES: LiteralString = "select f.outcome from scheduler.plan_fires(%s, %s, %s, %s) f"
MANY = 10_000
TOLERANCE = 0.2


@pytest.fixture(autouse=True)
def _noon(clock: Clock) -> None:
    clock.set(NOON)


def add_apps(db: psycopg.Connection, count: int, *, jobs: int = 1, called: str = "app") -> None:
    db.execute(
        "insert into scheduler.job (app, name, schedule, executor)"
        " select format('%%s %%s', %s::text, a), 'job ' || j, '@daily', 'python'"
        " from generate_series(1, %s) a, generate_series(1, %s) j",
        [called, count, jobs],
    )


def owners(db: psycopg.Connection) -> dict[str, tuple[int, int]]:
    """Server and epoch of each app."""
    query: LiteralString = "select o.app, o.server, o.epoch from scheduler.owner o"
    return {app: (server, epoch) for app, server, epoch in rows(db, query)}


def shares(db: psycopg.Connection) -> list[int]:
    """How many apps each owner has, the fewest first."""
    return sorted(Counter(server for server, _ in owners(db).values()).values())


def moves(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> int:
    return sum(before[app][0] != server for app, (server, _) in after.items() if app in before)


def leave(db: psycopg.Connection, server: int) -> None:
    db.execute("select scheduler.retire_server(%s)", [server])


def test_an_app_has_no_owner_before_it_has_a_job_and_a_server_is_alive(db: psycopg.Connection) -> None:
    add_run(db)
    server = add_server(db)
    assert one(db, ASSIGN, False) == 0
    leave(db, server)
    add_job(db, schedule="@daily")
    assert one(db, ASSIGN, False) == 0
    assert rows(db, "select l.server from scheduler.locate(%s) l", APP) == []
    server = add_server(db, "one", "http://one")
    assert one(db, ASSIGN, False) == 1
    query: LiteralString = "select l.server, l.epoch, l.address, l.label from scheduler.locate(%s) l"
    assert rows(db, query, APP) == [(server, owners(db)[APP][1], "http://one", "one")]


def test_an_app_whose_jobs_are_all_on_demand_is_found_when_the_servers_rebalance(db: psycopg.Connection) -> None:
    server = add_server(db)
    add_job(db)
    assert (one(db, ASSIGN, False), owners(db)) == (0, {})
    assert one(db, ASSIGN, True) == 1
    assert owners(db)[APP][0] == server


def test_new_apps_go_to_the_least_loaded_by_their_jobs(db: psycopg.Connection) -> None:
    for label in ("one", "two"):
        add_server(db, label)
    add_apps(db, 1, jobs=30, called="large")
    add_apps(db, 20)
    assert one(db, ASSIGN, False) == 21
    large = owners(db)["large 1"][0]
    query: LiteralString = "select sum(o.weight)::integer from scheduler.owner o group by o.server order by 1"
    assert column(db, query) == [35, 36]
    assert sum(server == large for server, _ in owners(db).values()) == 3


def test_what_a_dead_server_owned_moves_and_nothing_else(db: psycopg.Connection, clock: Clock) -> None:
    dead, *others = [add_server(db) for _ in range(3)]
    add_apps(db, 30)
    one(db, ASSIGN, True)
    before = owners(db)
    clock.advance(5)
    for server in others:
        db.execute("select scheduler.heartbeat_server(%s)", [server])
    query: LiteralString = "select a.moved, a.next_in from scheduler.assign_apps(%s) a"
    assert rows(db, query, DEAD_AFTER) == [(0, timedelta(0))]
    clock.advance(0.001)
    assert rows(db, query, DEAD_AFTER) == [(10, DEAD_AFTER - timedelta(seconds=0.001))]
    after = owners(db)
    assert {app for app in after if after[app][0] != before[app][0]} == {
        app for app, (server, _) in before.items() if server == dead
    }
    assert shares(db) == [15, 15]
    assert column(db, "select s.id from scheduler.server s where s.dead_at is not null") == [dead]


def test_a_good_bye_gives_the_apps_away_at_once(db: psycopg.Connection) -> None:
    first, second = add_server(db), add_server(db)
    add_apps(db, 10)
    one(db, ASSIGN, True)
    leave(db, first)
    assert {server for server, _ in owners(db).values()} == {second}
    leave(db, second)
    assert column(db, "select l.server from scheduler.locate('app 1') l") == []
    third = add_server(db)
    assert (one(db, ASSIGN, False), {server for server, _ in owners(db).values()}) == (10, {third})


@pytest.mark.timeout(120)
def test_of_ten_thousand_apps_no_more_move_than_must(db: psycopg.Connection) -> None:
    first, *_ = [add_server(db) for _ in range(3)]
    add_apps(db, MANY)
    assert one(db, ASSIGN, True) == MANY
    assert shares(db) == [3_333, 3_333, 3_334]
    before = owners(db)
    add_server(db)
    assert one(db, ASSIGN, True) == MANY // 4
    joined = owners(db)
    assert (shares(db), moves(before, joined)) == ([MANY // 4] * 4, MANY // 4)
    leave(db, first)
    assert moves(joined, owners(db)) == MANY // 4
    assert max(shares(db)) - min(shares(db)) <= 1
    assert one(db, ASSIGN, True) == 0


def test_small_differences_move_nothing(db: psycopg.Connection) -> None:
    for _ in range(2):
        add_server(db)
    add_apps(db, 100)
    one(db, ASSIGN, True)
    before = owners(db)
    lighter = min(server for server, _ in before.values())
    removed = [app for app, (server, _) in before.items() if server == lighter][:16]
    db.execute("delete from scheduler.job where app = any (%s)", [removed])
    db.execute("select scheduler.weigh_apps(%s)", [lighter])
    assert (one(db, ASSIGN, True), shares(db)) == (0, [34, 50])
    db.execute(
        "delete from scheduler.job where app = any (%s)", [[a for a, o in owners(db).items() if o[0] == lighter][:5]]
    )
    db.execute("select scheduler.weigh_apps(%s)", [lighter])
    assert (one(db, ASSIGN, True), shares(db)) == (10, [39, 40])


def test_epochs_only_grow_also_when_an_app_goes_and_comes_back(db: psycopg.Connection) -> None:
    servers = [add_server(db) for _ in range(2)]
    add_apps(db, 10)
    latest = 0
    for _ in range(6):
        one(db, ASSIGN, True)
        epochs = [epoch for _, epoch in owners(db).values()]
        assert min(epochs) > 0
        leave(db, servers.pop(0))
        servers.append(add_server(db))
        assert max(epochs) >= latest
        latest = max(epochs)
    before = owners(db)["app 1"]
    db.execute("delete from scheduler.job where app = 'app 1'")
    db.execute("select scheduler.weigh_apps(%s)", [before[0]])
    assert "app 1" not in owners(db)
    add_apps(db, 1)
    one(db, ASSIGN, False)
    assert owners(db)["app 1"][1] > before[1]


def test_apps_weigh_by_their_jobs_and_the_runs_planned_of_late(db: psycopg.Connection) -> None:
    server = add_server(db)
    add_apps(db, 2)
    one(db, ASSIGN, True)
    add_apps(db, 1, jobs=9, called="app 2")
    weigh: LiteralString = "select scheduler.weigh_apps(%s, %s::text[], %s::bigint[])"
    assert one(db, weigh, server, ["app 1", "of another"], [50, 7]) == 1
    weights: LiteralString = "select o.app, o.weight from scheduler.owner o order by o.app"
    assert rows(db, weights) == [("app 1", 52), ("app 2", 2)]
    assert one(db, weigh, server, ["app 1"], [58]) == 0, "it differs by less than a fifth"
    assert one(db, weigh, server, ["app 1"], [0]) == 1
    assert rows(db, weights) == [("app 1", 2), ("app 2", 2)]


def test_jobs_are_counted_up_to_ten_thousand(db: psycopg.Connection) -> None:
    add_apps(db, 1, jobs=10_001)
    assert one(db, "select w.weight from scheduler.weight_of('app 1') w") == 10_001
    assert one(db, "select w.weight from scheduler.weight_of('no app') w") == 1


@pytest.mark.parametrize(("loads", "balanced"), [([], True), ([8, 12], True), ([7, 13], False), ([10, 13, 7], False)])
def test_loads_within_a_fifth_of_their_average_are_balanced(
    db: psycopg.Connection, loads: list[int], *, balanced: bool
) -> None:
    assert one(db, "select scheduler.is_balanced(%s::bigint[], 10)", loads) is balanced


async def test_apps_with_new_jobs_are_those_nobody_has_looked_at(dsn: str, db: psycopg.Connection) -> None:
    add_apps(db, 3, jobs=2)
    query: LiteralString = "select n.app from scheduler.apps_with_new_jobs(%s) n"
    assert column(db, query, "") == ["app 1", "app 2", "app 3"]
    assert column(db, query, "app 1") == ["app 2", "app 3"]
    await plan_once(dsn)
    assert column(db, query, "") == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    weights=st.lists(st.integers(1, 1_000), min_size=1, max_size=60),
    steps=st.lists(st.booleans(), min_size=1, max_size=6),
)
@example(weights=[1, 2, 5], steps=[False, True])  # an average that was rounded up moved nothing
def test_whatever_comes_and_goes_only_what_must_moves(
    db: psycopg.Connection, weights: list[int], steps: list[bool]
) -> None:
    db.execute("delete from scheduler.owner; delete from scheduler.server")
    db.execute(
        "insert into scheduler.owner (app, weight)"
        " select 'app ' || i, w from unnest(%s::bigint[]) with ordinality u (w, i)",
        [weights],
    )
    servers = [add_server(db)]
    one(db, ASSIGN, True)
    for joins in steps:
        before = owners(db)
        if joins or len(servers) == 1:
            servers.append(add_server(db))
            moved = one(db, ASSIGN, True)
            after = owners(db)
            gained = {app for app in after if after[app] != before[app]}
            assert moved == len(gained), "each moves once"
            if moved:
                assert spread(db, servers)[1] <= spread_of(before, weights, servers)[1], "it is no worse than before"
        else:
            gone = servers.pop(0)
            leave(db, gone)
            after = owners(db)
            assert {app for app in after if after[app] != before[app]} == {a for a, o in before.items() if o[0] == gone}
        assert {server for server, _ in after.values()} <= set(servers)
        assert all(after[app][1] >= before[app][1] for app in after)
        assert one(db, ASSIGN, False) == 0
    while one(db, ASSIGN, True):
        pass
    least, most = spread(db, servers)
    average = sum(weights) / len(servers)
    balanced = least >= (1 - TOLERANCE) * average - 1 and most <= (1 + TOLERANCE) * average + 1
    assert balanced or not helpful(db, servers), "one more move would have brought two servers closer"


def spread(db: psycopg.Connection, servers: list[int]) -> tuple[int, int]:
    loads = loads_of(db, servers)
    return min(loads.values()), max(loads.values())


def spread_of(owned: dict[str, tuple[int, int]], weights: list[int], servers: list[int]) -> tuple[int, int]:
    loads = dict.fromkeys(servers, 0)
    for app, (server, _) in owned.items():
        loads[server] += weights[int(app.split()[1]) - 1]
    return min(loads.values()), max(loads.values())


def loads_of(db: psycopg.Connection, servers: list[int]) -> dict[int, int]:
    query: LiteralString = "select o.server, sum(o.weight)::bigint from scheduler.owner o group by o.server"
    return dict.fromkeys(servers, 0) | dict(rows(db, query))


def helpful(db: psycopg.Connection, servers: list[int]) -> bool:
    """Whether moving one app from an overloaded server to the least loaded would bring the two closer."""
    loads = loads_of(db, servers)
    least, average = min(loads.values()), sum(loads.values()) // len(servers)
    owned = rows(db, "select o.server, o.weight from scheduler.owner o")
    return any(loads[server] > average and weight < loads[server] - least for server, weight in owned)


def test_a_plan_counts_only_of_the_owner_and_under_its_epoch(db: psycopg.Connection) -> None:
    job = add_job(db, schedule="* * * * *")
    former = own(db)
    _, epoch = owners(db)[APP]
    plan = Jsonb([a_plan(job, SOON)])
    other = add_server(db)
    assert column(db, FIRES, APP, other, epoch, plan) == []
    assert column(db, FIRES, APP, former, epoch + 1, plan) == []
    leave(db, former)
    assert column(db, FIRES, APP, former, epoch, plan) == []
    assert (column(db, "select r.id from scheduler.run r"), column(db, "select f.job from scheduler.fire f")) == (
        [],
        [],
    )
    owner, epoch = owners(db)[APP]
    assert owner == other
    assert column(db, FIRES, APP, owner, epoch, plan) == ["planned", "moved"]


def test_a_server_reads_only_what_it_owns(db: psycopg.Connection, clock: Clock) -> None:
    servers = [add_server(db) for _ in range(2)]
    add_apps(db, 6)
    one(db, ASSIGN, True)
    due: LiteralString = "select d.app, d.epoch from scheduler.due_jobs(%s, '10 s', 100, %s) d"
    stock: LiteralString = "select s.due_in < '0' from scheduler.take_stock(%s, '10 s', '1 s') s"
    for is_new in (True, False):
        read = [dict(rows(db, due, server, is_new)) for server in servers]
        assert [len(one) for one in read] == [3, 3]
        assert read[0] | read[1] == {app: epoch for app, (_, epoch) in owners(db).items()}
        assert [column(db, stock, server) for server in servers] == [[True], [True]]
        assert rows(db, due, 0, is_new) == []
        assert column(db, stock, 0) == [None]
        db.execute("update scheduler.job_schedule set next_at = %s", [NOON])


async def test_what_waits_for_the_end_of_a_run_is_let_go_by_the_owner_only(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    worker = await busy_at_its_next_instant(dsn, db, clock, "queue")
    clock.advance(10)
    await plan_once(dsn)  # the instant of 12:02 waits for that of 12:01
    schedule(db, "after", "@after 1s")
    for _ in range(2):
        clock.advance(1)
        await plan_once(dsn, pulse_below=0)  # by rows
    another = FakeWorker(db)
    assert another.claim() == 1
    another.finish()
    worker.finish()
    stranger = add_server(db, "stranger")
    stock: LiteralString = "select s.waits from scheduler.take_stock(%s, '10 s', '1 s') s"
    waiting: LiteralString = "select count(*) from scheduler.run r where r.run_at = 'infinity'"
    awaited: LiteralString = "select count(*) from scheduler.job_schedule s where s.awaits is not null"
    assert one(db, stock, stranger) is False
    assert (one(db, waiting), one(db, awaited)) == (1, 1)
    one(db, stock, own(db))
    assert (one(db, waiting), one(db, awaited)) == (0, 0)


async def test_a_deferred_instant_is_recalled_by_the_owner_only(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    worker = await busy_at_its_next_instant(dsn, db, clock, "skip")
    await plan_once(dsn)
    worker.finish()
    assert one(db, "select scheduler.recall_deferred(%s)", add_server(db, "stranger")) == 0
    assert one(db, "select scheduler.recall_deferred(%s)", own(db)) == 1


def test_others_new_definitions_are_stepped_over(db: psycopg.Connection) -> None:
    """A million of them took every look of every server a second, until their owner had planned them."""
    add_apps(db, 1, jobs=5_000, called="busy")
    db.execute("insert into scheduler.owner (app, server, weight) values ('busy 1', 999, 1), ('zebra', 1000, 1)")
    add_job(db, app="zebra", schedule="@daily")
    reads: LiteralString = "select pg_stat_get_xact_tuples_returned('scheduler.job_schedule_next'::regclass)"
    for ask in (
        "select count(*) from scheduler.due_jobs(1000, '10 s', 100, true)",
        "select count(*) from scheduler.next_plan_at(1000, '10 s', '1 s') n where n < '0'",
    ):
        with db.transaction():
            before = one(db, reads)
            assert db.execute(ask).fetchone() == (1,)
            assert one(db, reads) - before < 20
    db.execute("update scheduler.job_schedule set next_at = %s where app = 'busy 1'", [NOON])
    db.execute("update scheduler.job_schedule set next_at = %s where app = 'zebra'", [SOON])
    db.execute("vacuum scheduler.job_schedule")
    with db.transaction():
        before = one(db, reads)
        assert one(db, "select scheduler.next_plan_at(1000, '10 s', '1 s') < '0'")
        assert one(db, reads) - before < 20
