"""Installs the schema, brings it up to date, and tells whether this program and the database fit together.

`sql/migrations` holds the shape of the data: each file is applied once, in the order of its number, and frozen by its
checksum from then on. `sql/functions` holds everything that can be written anew, `sql/grants` who may use what: all of
it is re-applied, whole, as soon as one file differs. Both happen in one transaction under an advisory lock, so twenty
installers at once do the work of one, and an install that fails leaves nothing behind. With nothing to do, two small
reads are all it costs.

Roles belong to all databases of a server, and to make them takes CREATEROLE, which the login at hand often lacks. So
`migrate` makes none: `grant_roles` does, where it is asked to, and from then on `migrate` gives them what changed.

`scheduler.migration` keeps the account. Its row 0 stands for the functions, and its checksum for all their files.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

from scheduler.db import Backoff, reason
from scheduler.errors import SchemaError

OLDEST_POSTGRES = 15
FUNCTIONS = "functions"
PUBLIC = "public"  # the file of grants that is no role's

_PACKAGED = Path(__file__).parent / "_sql"  # in an installed wheel; a checkout has ../sql
SQL_ROOT = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parent.parent / "sql"

_LOCK = 7_716_800  # the advisory lock of installers; any number will do that nobody else takes
_LOCK_TRIES = 5
_BUSY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)  # somebody was at work; worth another try
_MIGRATE = "run `scheduler migrate`"

_BEGIN = f"""
    set transaction isolation level read committed;  -- what is read must be what the previous installer left
    set local statement_timeout = 0;                 -- the others wait for the first, however long its migrations take
    set local lock_timeout = 0;
    set local client_min_messages = warning;
    set local search_path = pg_catalog, pg_temp;     -- a file that forgets to say scheduler. fails here, for everyone
    select pg_advisory_xact_lock({_LOCK});
    set local lock_timeout = '5s';                   -- a lock queue behind a long report must not stop production
"""
# Not to_regclass: it answers from the session's cache, and an advisory lock does not make a session read the news.
# Of twenty installers, up to ten saw nothing installed after having waited for the one that did it.
_IS_INSTALLED = """
    select from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'scheduler' and c.relname = 'migration'
"""
_BOOKKEEPING = """
    create table if not exists scheduler.migration (
        version    integer     not null,
        name       text        not null,
        checksum   text        not null,
        applied_at timestamptz not null default now(),
        constraint migration_pkey primary key (version)
    )
"""
_RECORD = """
    insert into scheduler.migration as m (version, name, checksum) values (%s, %s, %s)
    on conflict (version) do update set checksum = excluded.checksum, applied_at = now()
"""


# Those that have the schema by a grant of their own: a role of another database is not let into this one by an upgrade.
_GRANTED = """
    select r.rolname from pg_namespace n cross join aclexplode(n.nspacl) a join pg_roles r on r.oid = a.grantee
    where n.nspname = 'scheduler' and a.privilege_type = 'USAGE'
"""


class State(StrEnum):
    ABSENT = "absent"
    OLDER = "older"
    CURRENT = "current"
    NEWER = "newer"


@dataclass(frozen=True, slots=True)
class SqlFile:
    """One file of the SQL tree. The name has no suffix: `0001_job`, `3_claim/claim`."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def version(self) -> int:
        """Of a migration: its number."""
        return int(self.name.partition("_")[0])


@dataclass(frozen=True, slots=True)
class SqlTree:
    """All that an install applies, in the order it is applied."""

    migrations: tuple[SqlFile, ...]
    functions: tuple[SqlFile, ...]
    grants: tuple[SqlFile, ...] = ()

    @classmethod
    def read(cls, root: Path = SQL_ROOT) -> SqlTree:
        return cls(
            _files(root / "migrations", "*.sql"),
            _files(root / "functions", "*/*.sql"),
            _files(root / "grants", "*.sql"),
        )

    @property
    def newest(self) -> int:
        return max((one.version for one in self.migrations), default=0)

    @property
    def roles(self) -> tuple[str, ...]:
        """The database's roles that have rights of their own."""
        return tuple(one.name for one in self.grants if one.name != PUBLIC)

    @property
    def functions_checksum(self) -> str:
        """Of the grants, too: they are given anew with the functions."""
        files = (*self.functions, *self.grants)
        return hashlib.sha256("".join(f"{one.name} {one.checksum}\n" for one in files).encode()).hexdigest()


async def migrate(conn: AsyncConnection[TupleRow], tree: SqlTree | None = None) -> list[str]:
    """Brings the schema to this program's. Returns what was applied: migrations, then `functions`; often nothing.

    SchemaError when the server is too old, the schema is newer, a file fails or an applied migration has changed;
    then nothing was applied. A lock that is not had within 5 s is tried for again, five times in all.
    """
    tree = tree or SqlTree.read()
    if await check(conn, tree) is State.CURRENT:
        return []
    backoff = Backoff(first=0.5)
    for _ in range(_LOCK_TRIES - 1):
        try:
            return await _migrate_once(conn, tree)
        except _BUSY:
            await asyncio.sleep(backoff.next())
    try:
        return await _migrate_once(conn, tree)
    except _BUSY as error:
        raise SchemaError(
            "the schema was not changed: somebody keeps a table of it locked",
            hint="look for the oldest transaction in pg_stat_activity, and try again when it has ended",
        ) from error


async def grant_roles(conn: AsyncConnection[TupleRow], tree: SqlTree | None = None) -> list[str]:
    """Makes the roles that are missing, and gives all of them their rights in this database. Returns those it made.

    SchemaError when they cannot be made: then nothing has changed. The schema must be this program's (see `migrate`).
    """
    tree = tree or SqlTree.read()
    await ensure_known(conn, tree)
    try:
        async with conn.transaction():
            await conn.execute(_BEGIN.encode())
            made = [role for role in tree.roles if await _make_role(conn, role)]
            for one in tree.grants:
                await _run_file(conn, one)
    except psycopg.errors.InsufficientPrivilege as error:
        names = "; ".join(f"create role {role} nologin" for role in tree.roles)
        raise SchemaError(
            f"no role was made: {reason(error)}", hint=f"have somebody with CREATEROLE run `{names}`, and try again"
        ) from error
    except psycopg.Error as error:
        raise SchemaError(f"no role was changed: {reason(error)}") from error
    return made


async def check(conn: AsyncConnection[TupleRow], tree: SqlTree | None = None) -> State:
    """How the schema compares with this program. Takes no lock that anyone would notice."""
    tree = tree or SqlTree.read()
    _refuse_old_server(conn)
    applied = await _applied(conn)
    if not applied:
        return State.ABSENT
    if applied.keys() - {0} - {one.version for one in tree.migrations}:
        return State.NEWER
    if _pending(tree, applied) or applied.get(0) != tree.functions_checksum:
        return State.OLDER
    return State.CURRENT


async def ensure_known(conn: AsyncConnection[TupleRow], tree: SqlTree | None = None) -> None:
    """SchemaError, with the way out, unless the schema is the one that this program knows."""
    tree = tree or SqlTree.read()
    state = await check(conn, tree)
    if state is State.ABSENT:
        raise SchemaError("this database has no scheduler schema", hint=_MIGRATE)
    if state is State.OLDER:
        raise SchemaError("this database's scheduler schema is older than this program", hint=_MIGRATE)
    if state is State.NEWER:
        raise _newer(tree)


async def _migrate_once(conn: AsyncConnection[TupleRow], tree: SqlTree) -> list[str]:
    try:
        async with conn.transaction():
            await conn.execute(_BEGIN.encode())
            return await _apply(conn, tree)
    except _BUSY:
        raise
    except psycopg.Error as error:
        raise SchemaError(f"the schema was not changed: {reason(error)}") from error


async def _apply(conn: AsyncConnection[TupleRow], tree: SqlTree) -> list[str]:
    # Asked again, now under the lock: the installer before may have done it all.
    state = await check(conn, tree)
    if state is State.CURRENT:
        return []
    if state is State.NEWER:
        raise _newer(tree)
    await _prepare(conn)
    names: list[str] = []
    for one in _pending(tree, await _applied(conn)):
        await _run_file(conn, one)
        await conn.execute(_RECORD, (one.version, one.name, one.checksum))
        names.append(one.name)
    for one in tree.functions:
        await _run_file(conn, one)
    granted = {str(name) for (name,) in await (await conn.execute(_GRANTED)).fetchall()}
    for one in tree.grants:
        if one.name == PUBLIC or one.name in granted:
            await _run_file(conn, one)
    await conn.execute(_RECORD, (0, FUNCTIONS, tree.functions_checksum))
    return [*names, FUNCTIONS]


async def _prepare(conn: AsyncConnection[TupleRow]) -> None:
    found = await conn.execute("select from pg_namespace n where n.nspname = 'scheduler'")
    if await found.fetchone() is None:  # `if not exists` would ask for CREATE on the database even when it is there
        await conn.execute("create schema scheduler")
    await conn.execute(_BOOKKEEPING)


async def _make_role(conn: AsyncConnection[TupleRow], role: str) -> bool:
    found = await conn.execute("select from pg_roles r where r.rolname = %s", [role])
    if await found.fetchone() is not None:
        return False
    try:
        async with conn.transaction():
            await conn.execute(SQL("create role {} nologin").format(Identifier(role)))
    except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        return False  # installers of two databases share the roles, and not the lock
    return True


async def _run_file(conn: AsyncConnection[TupleRow], one: SqlFile) -> None:
    try:
        await conn.execute(one.text.encode())
    except _BUSY:
        raise
    except psycopg.Error as error:
        position = int(error.diag.statement_position or 0)
        line = f":{one.text.count(chr(10), 0, position - 1) + 1}" if position else ""
        raise SchemaError(f"{one.name}.sql{line}: {reason(error)}; nothing was applied") from error


async def _applied(conn: AsyncConnection[TupleRow]) -> dict[int, str]:
    """Checksums by version; empty where nothing was installed."""
    try:
        found = await conn.execute(_IS_INSTALLED)
        if await found.fetchone() is None:
            return {}
        rows = await conn.execute("select m.version, m.checksum from scheduler.migration m")
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaError(f"the scheduler schema cannot be read as {conn.info.user}: {reason(error)}") from error
    return {int(version): str(checksum) for version, checksum in await rows.fetchall()}


def _pending(tree: SqlTree, applied: dict[int, str]) -> list[SqlFile]:
    for one in tree.migrations:
        if applied.get(one.version, one.checksum) != one.checksum:
            raise SchemaError(
                f"migration {one.name} is not the one that was applied to this database",
                hint="an applied migration never changes; undo the edit and write the next migration",
            )
    return [one for one in tree.migrations if one.version not in applied]


def _newer(tree: SqlTree) -> SchemaError:
    return SchemaError(
        f"this database's scheduler schema is newer than this program, which knows it up to migration {tree.newest}",
        hint="upgrade walclock here",
    )


def _refuse_old_server(conn: AsyncConnection[TupleRow]) -> None:
    if conn.info.server_version < OLDEST_POSTGRES * 10_000:
        major = conn.info.server_version // 10_000
        raise SchemaError(f"the server is PostgreSQL {major}", hint=f"PostgreSQL {OLDEST_POSTGRES} or later is needed")


def _files(folder: Path, pattern: str) -> tuple[SqlFile, ...]:
    paths = sorted(folder.glob(pattern))
    return tuple(
        SqlFile(path.relative_to(folder).with_suffix("").as_posix(), path.read_text(encoding="utf-8")) for path in paths
    )
