"""What services do when their database turns read-only, moves to another host, goes back in time or is another one."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from scheduler import db as database
from scheduler.embedded import Embedded
from scheduler.errors import ReadOnlyError
from scheduler.install import migrate
from tests.support.command import Scheduler
from tests.support.embedded import data_directory
from tests.support.fleet import Fleet, wait_until

IS_BACK = "the database takes writes again"
IS_READ_ONLY = "the database is read-only (default_transaction_read_only is on): nothing is done until"


class Site:
    """A server of its own, with the schema installed, and a fleet whose tests ask this server."""

    def __init__(self, data_dir: Path) -> None:
        self.server = Embedded(data_dir)
        self.data_dir = data_dir

    @property
    def dsn(self) -> str:
        return self.server.dsn

    def session(self) -> psycopg.Connection:
        return psycopg.connect(self.server.dsn, autocommit=True)

    def read_only(self, value: str) -> None:
        with psycopg.connect(self.server.admin_dsn, autocommit=True) as admin:
            admin.execute(f"alter system set default_transaction_read_only = {value}".encode())
            admin.execute("select pg_reload_conf()")

    def standby(self, data_dir: Path) -> Site:
        """A copy of it that waits for its promotion. The original must not run while it is made."""
        shutil.copytree(self.data_dir / "pgdata", data_dir / "pgdata")
        for path in (data_dir, data_dir / "pgdata", *(data_dir / "pgdata").rglob("*")):
            original = (self.data_dir / path.relative_to(data_dir)).stat()
            os.chown(path, original.st_uid, original.st_gid)
            path.chmod(original.st_mode)
        (data_dir / "pgdata" / "standby.signal").touch()
        return Site(data_dir)

    def promote(self) -> None:
        """It goes on, on the next timeline."""
        with psycopg.connect(self.server.admin_dsn, autocommit=True) as admin:
            assert admin.execute("select pg_promote()").fetchone() == (True,)


@contextmanager
def a_site() -> Iterator[Site]:
    with data_directory() as data_dir:
        site = Site(data_dir)
        with site.server:
            asyncio.run(install(site.dsn))
        try:
            yield site
        finally:
            site.server.stop()


async def install(dsn: str) -> None:
    async with await database.connect(dsn, name="tests") as conn:
        await migrate(conn)


@pytest.fixture
def site() -> Iterator[Site]:
    with a_site() as site:
        yield site


@pytest.mark.chaos
def test_a_worker_does_nothing_while_its_database_is_read_only_and_goes_on_after_it(site: Site, tmp_path: Path) -> None:
    site.server.start()
    with site.session() as session:
        session.execute("set default_transaction_read_only = off")
        fleet = Fleet(site.dsn, session, tmp_path)
        worker = fleet.start(env={"SCHEDULER_DEAD_AFTER": "20"})
        naps = fleet.insert("nap", {"seconds": 1}, count=3)
        fleet.wait_for_effect("began", naps)
        site.read_only("on")
        wait_until(lambda: IS_READ_ONLY in worker.log)
        fleet.wait_for_effect("ended", naps)
        waiting = fleet.insert("note", count=5)
        assert fleet.states(waiting) == {"pending": 5}
        site.read_only("off")
        fleet.wait_for(naps + waiting)
        assert [fleet.attempts(run) for run in naps] == [["succeeded"]] * 3, "what had ended was reported"
        assert "cannot be stored" not in worker.log
        assert worker.log.count(IS_READ_ONLY) == 1
        assert worker.log.count(IS_BACK) == 1
        assert worker.returncode is None
        fleet.end()


@pytest.mark.chaos
def test_a_server_and_its_worker_follow_the_primary_and_end_when_the_old_one_answers(
    site: Site, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        second = site.standby(stack.enter_context(data_directory()))
        both = [conninfo_to_dict(dsn)["host"] for dsn in (site.dsn, second.dsn)]
        scheduler = Scheduler(make_conninfo(site.dsn, host=",".join(map(str, both))))
        stack.enter_context(site.server)
        log = stack.enter_context((tmp_path / "log").open("w+"))
        process = scheduler.start("run", stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.kill)
        works(site)
        site.server.stop()
        second.server.start()
        stack.callback(second.server.stop)
        no_primary = "the database is read-only (no host of the DSN is a primary)"
        wait_until(lambda: no_primary in (tmp_path / "log").read_text())
        second.promote()
        works(second)
        second.server.stop()
        site.server.start()
        assert process.wait(30) == 1
        said = (tmp_path / "log").read_text().splitlines()
        assert said[-1].startswith("error: the database went back in time: it is on timeline 1, and was on 2 before")
        assert "Traceback" not in "\n".join(said)


@pytest.mark.chaos
def test_a_worker_ends_when_another_database_answers(site: Site, tmp_path: Path) -> None:
    with a_site() as other, site.server:
        door = tmp_path / "door"
        door.symlink_to(str(conninfo_to_dict(site.dsn)["host"]))
        with site.session() as session:
            fleet = Fleet(make_conninfo(site.dsn, host=str(door)), session, tmp_path)
            worker = fleet.start()
            fleet.wait_for_effect("began", fleet.insert("nap", {"seconds": 600}))
        site.server.stop()
        door.unlink()
        door.symlink_to(str(conninfo_to_dict(other.dsn)["host"]))
        other.server.start()
        assert worker.wait(20) == 1
        assert worker.log.splitlines()[-1].startswith("error: another database answers than before: walclock of system")


@pytest.mark.chaos
def test_the_host_that_takes_writes_is_found_among_several(site: Site) -> None:
    async def main() -> None:
        with ExitStack() as stack:
            second = site.standby(stack.enter_context(data_directory()))
            for one in (site, second):
                stack.enter_context(one.server)
            hosts = [str(conninfo_to_dict(one.dsn)["host"]) for one in (second, site)]
            dsn = make_conninfo(site.dsn, host=",".join(["/nowhere", *hosts]))

            async def found() -> Site:
                async with await database.connect(dsn, name="test") as conn:
                    return site if conn.info.host == hosts[1] else second

            assert await found() is site, "the others do not answer, or are standbys"
            await asyncio.to_thread(site.server.stop)
            with pytest.raises(ReadOnlyError, match="read-only"):
                await found()
            await asyncio.to_thread(second.promote)
            assert await found() is second

    asyncio.run(main())


def works(site: Site) -> None:
    """A run that is inserted there is executed."""
    with site.session() as session:
        insert = (
            """insert into scheduler.run (app, executor, spec) values ('shop', 'http', '{"url": ""}') returning id"""
        )
        ((run,),) = session.execute(insert).fetchall()
        ended = "select from scheduler.history where id = %s"
        wait_until(lambda: session.execute(ended, [run]).rowcount == 1)
