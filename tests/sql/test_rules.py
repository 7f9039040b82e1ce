"""The rules that the SQL files keep, read from their syntax trees and from the catalogs of an installed database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pglast import ast, parse_plpgsql, parse_sql
from pglast.enums import AlterTableType

from scheduler.install import SqlFile, SqlTree

TREE = SqlTree.read()
TESTS = Path(__file__).parent.parent

# What a function file may do besides making its object: say what it is, who may use it, and replace what it was.
COMPANIONS = (ast.CommentStmt, ast.DropStmt, ast.GrantStmt)

WITHOUT_APP_IN_FRONT = {
    "server": "a process serves many apps",
    "worker": "a process serves many apps",
    "token": "it may reach into several apps",
    "migration": "the account of installs; it belongs to the database",
    "history": "has no primary key: it is append-only, and nobody addresses a row of it",
}

every_file = pytest.mark.parametrize("one", [*TREE.migrations, *TREE.functions], ids=lambda one: one.name)
every_function_file = pytest.mark.parametrize("one", TREE.functions, ids=lambda one: one.name)


def statements(one: SqlFile) -> list[ast.Node]:
    return [raw.stmt for raw in parse_sql(one.text) if raw.stmt]


def made(node: ast.Node) -> tuple[str, str] | None:
    """Kind and name of the object that a statement makes, both as the catalogs call them."""
    if isinstance(node, ast.CreateFunctionStmt):
        return "function", ".".join(part.sval for part in node.funcname or ())
    if isinstance(node, ast.ViewStmt) and node.view:
        return "view", f"{node.view.schemaname}.{node.view.relname}"
    if isinstance(node, ast.CreateTrigStmt) and node.relation:
        return "trigger", f"{node.relation.schemaname}.{node.trigname}"
    return None


def objects(kind: str) -> list[str]:
    found = (made(node) for one in TREE.functions for node in statements(one))
    return sorted(name for each in found if each for what, name in [each] if what == kind)


def functions(one: SqlFile) -> Iterator[tuple[ast.CreateFunctionStmt, dict[str, object]]]:
    for node in statements(one):
        if isinstance(node, ast.CreateFunctionStmt):
            yield node, {option.defname: option.arg for option in node.options or () if option.defname != "set"}


def body_of(options: dict[str, object]) -> str:
    text = options["as"]
    assert isinstance(text, tuple)
    return str(text[0].sval)


@every_file
def test_a_file_parses(one: SqlFile) -> None:
    assert statements(one)


@every_function_file
def test_a_function_file_makes_one_object_named_like_itself(one: SqlFile) -> None:
    makers = [made(node) for node in statements(one) if not isinstance(node, COMPANIONS) and not ties_default(node)]
    assert [name for _, name in filter(None, makers)] == [f"scheduler.{one.name.rpartition('/')[2]}"]
    assert None not in makers, "only a comment, drop, grant, revoke or a column default may stand beside it"


def ties_default(node: ast.Node) -> bool:
    """A column default that calls the function: the tables are there before it is."""
    return isinstance(node, ast.AlterTableStmt) and all(
        command.subtype is AlterTableType.AT_ColumnDefault for command in node.cmds or ()
    )


@every_function_file
def test_an_object_says_in_a_comment_what_it_is(one: SqlFile) -> None:
    comments = [node for node in statements(one) if isinstance(node, ast.CommentStmt)]
    assert len(comments) == 1
    assert comments[0].comment


@every_function_file
def test_a_body_begins_with_its_contract(one: SqlFile) -> None:
    for _, options in functions(one):
        lines = [line.strip() for line in body_of(options).strip().splitlines()]
        first = lines.index("begin") + 1 if options["language"].sval == "plpgsql" else 0  # type: ignore[attr-defined]
        assert lines[first].startswith("-- "), f"{one.name}: the first line of the body is {lines[first]!r}"


@every_function_file
def test_a_plpgsql_body_parses_and_executes_no_text(one: SqlFile) -> None:
    # The parser knows no schema but pg_catalog and public, and no arrays of rows. What it reads is not run, so a public
    # type of the same name and an array of texts stand in for them.
    tree = str(parse_plpgsql(re.sub(r"scheduler\.\w+\[\]", "text[]", one.text).replace("scheduler.", "public.")))
    assert not re.search("PLpgSQL_stmt_dyn|'dynquery'", tree), "no `execute` of a text: write the statement out"


@every_file
def test_no_file_uses_what_cannot_be_changed_later(one: SqlFile) -> None:
    for node in statements(one):
        # A value added to an enum cannot be used in the transaction that adds it (55P04).
        assert not isinstance(node, ast.CreateEnumStmt), "no enum types: text and a named check"
        # A body in SQL syntax ties the function to its tables, so that neither can be changed alone.
        assert not isinstance(node, ast.CreateFunctionStmt) or node.sql_body is None, "no `begin atomic`"


@every_function_file
def test_a_security_definer_function_has_a_fixed_search_path(one: SqlFile) -> None:
    for node, options in functions(one):
        if getattr(options.get("security"), "boolval", False):
            settings = [option.arg.name for option in node.options or () if option.defname == "set"]
            assert "search_path" in settings, f"{one.name} runs with its owner's rights and the caller's search_path"


def test_the_functions_of_the_database_are_those_of_the_files(db: psycopg.Connection) -> None:
    # As lists: an old signature that was left behind shows as the same name twice.
    found = db.execute("""
        select p.pronamespace::regnamespace || '.' || p.proname from pg_proc p
        where p.pronamespace = 'scheduler'::regnamespace
    """)
    assert sorted(name for (name,) in found) == objects("function")


def test_the_views_and_triggers_of_the_database_are_those_of_the_files(db: psycopg.Connection) -> None:
    views = db.execute("select 'scheduler.' || v.viewname from pg_views v where v.schemaname = 'scheduler'")
    assert sorted(name for (name,) in views) == objects("view")
    triggers = db.execute("""
        select 'scheduler.' || g.tgname from pg_trigger g join pg_class c on c.oid = g.tgrelid
        where c.relnamespace = 'scheduler'::regnamespace and not g.tgisinternal and not c.relispartition
    """)
    assert sorted(name for (name,) in triggers) == objects("trigger")


def test_every_primary_key_starts_with_app(db: psycopg.Connection) -> None:
    found = db.execute("""
        select c.relname, a.attname
        from pg_class c
        left join pg_index i on i.indrelid = c.oid and i.indisprimary
        left join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
        where c.relnamespace = 'scheduler'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
    """)
    assert {table for table, first in found if first != "app"} == WITHOUT_APP_IN_FRONT.keys()


def test_instants_end_in_at_and_nothing_else_does(db: psycopg.Connection) -> None:
    found = db.execute("""
        select c.relname || '.' || a.attname, a.atttypid = 'timestamptz'::regtype
        from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relnamespace = 'scheduler'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
            and a.attnum > 0 and not a.attisdropped
    """)
    wrong = [name for name, is_instant in found if is_instant != bool(re.search(r"[._]at$", name))]
    assert wrong == []


def test_no_column_has_a_time_without_a_zone(db: psycopg.Connection) -> None:
    found = db.execute("""
        select c.relname || '.' || a.attname
        from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relnamespace = 'scheduler'::regnamespace and a.attnum > 0
            and a.atttypid in ('timestamp'::regtype, 'timetz'::regtype)
    """)
    assert found.fetchall() == []


def test_a_check_is_named_after_its_rule(db: psycopg.Connection) -> None:
    # The name is all that a client sees of a refused row; `job_priority_check` would not say what would be right.
    found = db.execute("""
        select k.conname from pg_constraint k
        where k.connamespace = 'scheduler'::regnamespace and k.contype = 'c' and k.conname ~ '_check\\d*$'
    """)
    assert found.fetchall() == []


def test_every_function_and_view_is_used_by_a_test(db: psycopg.Connection) -> None:
    # Trigger functions cannot be called; their triggers are what tests of job and run set off.
    internal = db.execute("""
        select 'scheduler.' || p.proname from pg_proc p
        where p.pronamespace = 'scheduler'::regnamespace and p.prorettype = 'trigger'::regtype
    """)
    callable_ones = {*objects("function")} - {name for (name,) in internal}
    text = "\n".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py") if path != Path(__file__))
    used = set(re.findall(r"\bscheduler\.(\w+)\s*\(", text)) | set(re.findall(r"\bstore\.(\w+)\(", text))
    assert sorted(name for name in callable_ones if name.removeprefix("scheduler.") not in used) == []
    assert sorted(name for name in objects("view") if name not in text) == []
