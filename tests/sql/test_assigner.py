"""The duty that gives apps away: when it looks, what it counts, and whom it tells."""

from __future__ import annotations

from collections import Counter

import psycopg
import pytest

from scheduler.assigner import BUSY, Assigner
from scheduler.config import Settings
from scheduler.link import Link
from tests.conftest import Connect
from tests.support.builders import APP, add_job, add_server, one, rows
from tests.support.clock import Clock

NOON = "2030-01-01T12:00:00+00:00"


class Duty:
    """An assigner of a server of its own; `moved` counts how often it told that apps moved."""

    def __init__(self, link: Link, db: psycopg.Connection) -> None:
        self.server = add_server(db)
        self.runs: Counter[str] = Counter()
        self.moved = 0
        self.assigner = Assigner(link, Settings(), lambda: self.server, self.runs, self._told)

    def _told(self) -> None:
        self.moved += 1

    async def step(self) -> float:
        return await self.assigner.run_once()


@pytest.fixture(autouse=True)
def _noon(clock: Clock) -> None:
    clock.set(NOON)


async def test_it_tells_when_apps_moved_and_sleeps_until_the_poll(dsn: str, db: psycopg.Connection) -> None:
    add_job(db, schedule="@daily")
    async with Link(dsn, name="test") as link:
        duty = Duty(link, db)
        assert [await duty.step() for _ in range(2)] == [1.0, 1.0]
        assert duty.moved == 1
    assert rows(db, "select l.server from scheduler.locate(%s) l", APP) == [(duty.server,)]


async def test_it_looks_again_the_moment_a_server_may_be_declared_dead(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    add_job(db, schedule="@daily")
    async with Link(dsn, name="test") as link:
        await Duty(link, db).step()
    clock.advance(4.4)
    async with Link(dsn, name="test") as link:
        duty = Duty(link, db)
        assert await duty.step() == pytest.approx(0.6)
    clock.advance(0.61)
    async with Link(dsn, name="test") as link:
        duty.assigner = Assigner(link, Settings(), lambda: duty.server, duty.runs, duty._told)
        await duty.step()
        assert duty.moved == 1
    assert rows(db, "select l.server from scheduler.locate(%s) l", APP) == [(duty.server,)]


async def test_it_comes_back_soon_while_another_is_at_it(dsn: str, db: psycopg.Connection, connect: Connect) -> None:
    other = connect()
    async with Link(dsn, name="test") as link:
        duty = Duty(link, db)
        with other.transaction():
            assert one(other, "select a.moved from scheduler.assign_apps() a") == 0
            assert await duty.step() == BUSY
        assert await duty.step() == 1.0


async def test_a_server_that_starts_takes_its_share_and_later_looks_take_nothing(
    dsn: str, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        add_job(db, app=f"app {number}", schedule="@daily")
    owned = "select count(*) from scheduler.owner o where o.server = %s"
    async with Link(dsn, name="test") as link:
        first, second = Duty(link, db), Duty(link, db)
        db.execute("update scheduler.server set stopped_at = scheduler.clock() where id = %s", [second.server])
        await first.step()
        db.execute("update scheduler.server set stopped_at = null where id = %s", [second.server])
        await first.step()
        assert one(db, owned, first.server) == 4
        await second.step()
        assert [one(db, owned, duty.server) for duty in (first, second)] == [2, 2]
        first.server = add_server(db)  # it was declared dead and goes on under a new identity
        await first.step()
        assert one(db, owned, first.server) == 1


async def test_apps_weigh_by_the_runs_of_the_last_minutes(
    dsn: str, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.assigner.WEIGHING", 0.0)
    add_job(db, schedule="@daily")
    weight = "select o.weight from scheduler.owner o"
    async with Link(dsn, name="test") as link:
        duty = Duty(link, db)
        await duty.step()
        assert one(db, weight) == 2
        duty.runs[APP] += 100
        await duty.step()
        assert one(db, weight) == 102
        assert not duty.runs, "they are counted once"
        for _ in range(3):
            await duty.step()
        assert one(db, weight) == 2 + 73
        for _ in range(60):
            await duty.step()
        assert one(db, weight) == 2
