"""What every test can ask for: a server, a database of its own, sessions on it, and its clock."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.support.clock import Clock
from tests.support.database import Databases, clear_away, run_name

Connect = Callable[[], psycopg.Connection]


def pytest_configure() -> None:
    run_name()  # before pytest-xdist starts its workers, so that they inherit it


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # not a worker of pytest-xdist: the last one to leave
        clear_away()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a coroutine test in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in arguments}))
    return True


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    with Databases.started() as databases:
        yield databases


@pytest.fixture
def direct_dsn(databases: Databases) -> Iterator[str]:
    """A database of this test's own, with the schema installed, on a way that leads to PostgreSQL itself."""
    with databases.fresh() as dsn:
        yield dsn


@pytest.fixture
def dsn(direct_dsn: str) -> str:
    """A database of this test's own, with the schema installed, on the way that the tested processes take."""
    return direct_dsn


@pytest.fixture
def empty_dsn(databases: Databases) -> Iterator[str]:
    """A database of this test's own, without the schema."""
    with databases.fresh(installed=False) as dsn:
        yield dsn


@pytest.fixture
def sessions() -> Iterator[list[psycopg.Connection]]:
    """The sessions that `connect` opened."""
    sessions: list[psycopg.Connection] = []
    yield sessions
    for session in sessions:
        session.close()


@pytest.fixture
def connect(direct_dsn: str, sessions: list[psycopg.Connection]) -> Connect:
    """Opens another autocommit session on the test's database, in UTC. A statement that hangs is ended after 30 s."""

    def connect() -> psycopg.Connection:
        options = "-c statement_timeout=30s -c timezone=UTC"
        sessions.append(psycopg.connect(direct_dsn, autocommit=True, options=options))
        return sessions[-1]

    return connect


@pytest.fixture
def db(connect: Connect) -> psycopg.Connection:
    """A session on the test's database."""
    return connect()


@pytest.fixture
def clock(direct_dsn: str, sessions: list[psycopg.Connection]) -> Clock:
    """The test's database's clock; it runs free until it is set."""
    return Clock(direct_dsn, sessions)
