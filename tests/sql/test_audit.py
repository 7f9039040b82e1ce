"""The audit: what each change by SQL leaves behind, what leaves nothing, and what is never in it."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.conftest import Connect
from tests.support.builders import (
    APP,
    add_job,
    add_run,
    add_server,
    add_worker,
    claim,
    column,
    finish,
    one,
    own,
    rows,
)
from tests.support.database import Databases

ENTRIES: LiteralString = """
    select a.action, a.object, a.before, a.after from scheduler.audit a where a.app = %s order by a.n
"""
CANARY = "canary-7f3a"
DEPTH = 2_000


def entries(db: psycopg.Connection, app: str = APP) -> list[tuple[Any, ...]]:
    """(action, object, before, after) of a chain, in its order."""
    return rows(db, ENTRIES, app)


def last(db: psycopg.Connection, app: str = APP) -> tuple[Any, ...]:
    return entries(db, app)[-1]


def text_of_all(db: psycopg.Connection) -> str:
    return "\n".join(column(db, "select a::text from scheduler.audit a"))


def test_a_new_job_is_kept_with_its_whole_definition(db: psycopg.Connection) -> None:
    add_job(db, spec={"task": "tidy"}, schedule="0 3 * * *")
    ((action, what, before, after),) = entries(db)
    assert (action, what, before) == ("add", "job nightly", None)
    assert (after["schedule"], after["spec"], after["timeout"]) == ("0 3 * * *", {"task": "tidy"}, "01:00:00")


def test_every_column_of_a_definition_is_kept(db: psycopg.Connection) -> None:
    columns = column(
        db,
        "select a.attname::text from pg_attribute a"
        " where a.attrelid = 'scheduler.job'::regclass and a.attnum > 0 and not a.attisdropped",
    )
    add_job(db)
    assert set(last(db)[3]) | {"app", "name", "created_at", "updated_at"} == set(columns)


def test_of_an_edit_is_kept_what_changed_and_nothing_else(db: psycopg.Connection) -> None:
    add_job(db, priority=1, tags=["a"])
    db.execute("update scheduler.job set priority = 7, tags = '{b}', updated_at = now(), queue = queue")
    assert last(db) == ("edit", "job nightly", {"priority": 1, "tags": ["a"]}, {"priority": 7, "tags": ["b"]})


def test_an_edit_that_changes_nothing_leaves_nothing(db: psycopg.Connection) -> None:
    add_job(db)
    db.execute("update scheduler.job set priority = priority, updated_at = now()")
    db.execute("update scheduler.job set priority = 7 where name = 'nobody'")
    assert len(entries(db)) == 1


def test_a_replacement_of_a_job_is_an_edit(db: psycopg.Connection) -> None:
    add_job(db)
    db.execute(
        "insert into scheduler.job (app, name, executor) values (%s, 'nightly', 'http'), (%s, 'second', 'http')"
        " on conflict (app, name) do update set executor = excluded.executor",
        [APP, APP],
    )
    assert {what: action for action, what, _, _ in entries(db)[1:]} == {"job second": "add", "job nightly": "edit"}


def test_a_removed_job_is_kept_as_it_was(db: psycopg.Connection) -> None:
    add_job(db, spec={"task": "tidy"})
    db.execute("select scheduler.remove_job(%s, 'nightly')", [APP])
    action, what, before, after = last(db)
    assert (action, what, before["spec"], after) == ("remove", "job nightly", {"task": "tidy"}, None)


@pytest.mark.parametrize(("words", "what"), [("nightly", "job nightly"), (None, "app")])
def test_a_pause_and_its_end_are_kept_and_a_second_pause_is_none(
    db: psycopg.Connection, words: str | None, what: str
) -> None:
    add_job(db)
    for function in ("pause", "pause", "resume", "resume"):
        db.execute(f"select scheduler.{function}(%s, %s)", [APP, words])
    (paused, resumed) = entries(db)[1:]
    assert (paused[0], resumed[0], paused[1], resumed[1]) == ("pause", "resume", what, what)
    assert paused[2] == resumed[3] == {"paused_at": None}
    assert paused[3] == resumed[2]


def test_a_trigger_a_cancellation_and_a_retry_name_the_run(db: psycopg.Connection) -> None:
    add_job(db)
    run = one(db, "select scheduler.trigger(%s, 'nightly', %s)", APP, Jsonb({"args": {"a": 1}}))
    assert last(db) == ("trigger", "job nightly", None, {"run": run, "spec": {"args": {"a": 1}}})
    assert one(db, "select scheduler.cancel(%s, %s)", APP, run)
    assert last(db) == ("cancel", f"run {run}", {"state": "pending"}, {"state": "cancelled"})
    again = one(db, "select scheduler.retry(%s, %s)", APP, run)
    assert last(db) == ("retry", f"run {run}", None, {"run": again})
    claim(db, add_worker(db))
    assert one(db, "select scheduler.cancel(%s, %s)", APP, again)
    assert last(db) == ("cancel", f"run {again}", {"state": "running"}, {"state": "running", "cancel": "asked for"})
    kept = len(entries(db))
    assert not one(db, "select scheduler.cancel(%s, %s)", APP, run), "it has ended"
    assert len(entries(db)) == kept


def test_the_limits_of_a_queue_are_kept(db: psycopg.Connection) -> None:
    db.execute("select scheduler.limit_queue(%s, 'mail', 3)", [APP])
    db.execute("select scheduler.limit_queue(%s, 'mail', 4)", [APP])
    db.execute("update scheduler.queue_limit set queue = 'post'")
    db.execute("select scheduler.limit_queue(%s, 'post')", [APP])
    found = [(what, (before or {}).get("concurrency_limit"), (after or {}).get("concurrency_limit"))
             for _, what, before, after in entries(db)]  # fmt: skip
    assert found == [
        ("queue mail", None, 3), ("queue mail", 3, 4), ("queue mail", 4, None), ("queue post", None, 4),
        ("queue post", 4, None),
    ]  # fmt: skip


def test_an_app_that_a_person_gives_away_is_kept_and_what_assign_apps_does_is_not(db: psycopg.Connection) -> None:
    add_job(db)
    first = own(db)
    db.execute("select scheduler.weigh_apps(%s)", [first])
    assert len(entries(db)) == 1
    second = add_server(db)
    db.execute("update scheduler.owner set server = %s", [second])
    epoch = one(db, "select epoch from scheduler.owner")
    assert last(db) == ("assign", "app", {"server": first, "epoch": epoch}, {"server": second, "epoch": epoch})
    db.execute("delete from scheduler.owner")
    assert last(db) == ("assign", "app", {"server": second, "epoch": epoch}, None)
    db.execute("insert into scheduler.owner (app, server, weight) values (%s, %s, 1)", [APP, second])
    assert last(db) == ("assign", "app", None, {"server": second, "epoch": None})


def test_nobody_passes_himself_off_as_the_assigner(db: psycopg.Connection) -> None:
    add_job(db)
    own(db)
    disguises = (
        "/*\nPL/pgSQL function scheduler.assign_apps(interval,boolean,boolean) line 1 at SQL statement\n*/",
        "-- scheduler.assign_apps()\n",
    )
    for number, disguise in enumerate(disguises):
        db.execute(f"do $do$ begin update scheduler.owner set {disguise} server = {100 + number}; end $do$".encode())
    db.execute("""
        create function pg_temp."
        PL/pgSQL function scheduler.assign_apps(interval,boolean,boolean) line 1 at SQL statement"() returns void
        language plpgsql as $$ begin update scheduler.owner set server = 102; end $$
    """)
    db.execute("""
        select pg_temp."
        PL/pgSQL function scheduler.assign_apps(interval,boolean,boolean) line 1 at SQL statement"()
    """)
    assert [after["server"] for action, _, _, after in entries(db) if action == "assign"] == [100, 101, 102]


def test_runs_their_claims_and_ends_and_what_the_planner_writes_leave_nothing(db: psycopg.Connection) -> None:
    db.execute("select scheduler.limit_queue(%s, 'default', 100, 1000)", [APP])
    add_job(db, schedule="* * * * *")
    kept = len(entries(db))
    worker = add_worker(db)
    run = add_run(db)
    lease, taken = claim(db, worker)
    assert taken == [run]
    finish(db, worker, lease, taken)
    server = own(db)
    db.execute(
        "select scheduler.plan_fires(o.app, o.server, o.epoch, '[]') from scheduler.owner o where o.server = %s",
        [server],
    )
    # A run that is given back while its cancellation waits ends; who asked for it was kept when he asked.
    other = add_run(db)
    lease, _ = claim(db, worker)
    assert one(db, "select scheduler.cancel_run(%s, %s)", APP, other) == "running"
    assert one(db, "select scheduler.release(%s, %s, %s)", APP, worker, lease) == 0
    assert len(entries(db)) == kept


def test_what_was_rolled_back_never_was(db: psycopg.Connection) -> None:
    with db.transaction():
        add_job(db, "kept")
        with db.transaction(force_rollback=True):
            add_job(db, "dropped")
        add_job(db, "kept too")
    with db.transaction(force_rollback=True):
        db.execute("delete from scheduler.job")
    assert [what for _, what, _, _ in entries(db)] == ["job kept", "job kept too"]
    assert one(db, "select count(*) from scheduler.audit_pending") == 0


def test_a_transaction_has_its_changes_in_their_order_also_with_immediate_constraints(db: psycopg.Connection) -> None:
    with db.transaction():
        add_job(db, "a")
        db.execute("set constraints all immediate")
        add_job(db, "b")
        db.execute("update scheduler.job set priority = 5")
        db.execute("set constraints all deferred")
        add_job(db, "c")
    found = [(action, what) for action, what, _, _ in entries(db)]
    assert found[:2] == [("add", "job a"), ("add", "job b")]
    assert sorted(found[2:4]) == [("edit", "job a"), ("edit", "job b")]
    assert found[4:] == [("add", "job c")]
    assert column(db, "select n from scheduler.audit order by n") == [1, 2, 3, 4, 5]


def test_an_entry_names_the_login_and_what_the_session_said_of_itself(db: psycopg.Connection) -> None:
    with db.transaction():
        db.execute("set local scheduler.actor = 'token deploy'")
        db.execute("set local role pg_read_all_data")
        db.execute("reset role")
        add_job(db)
    add_job(db, "second")
    login = db.info.user
    assert rows(db, "select role, actor from scheduler.audit order by n") == [(login, "token deploy"), (login, None)]


def test_instants_are_of_the_servers_clock_in_utc_and_never_go_back(db: psycopg.Connection) -> None:
    with db.transaction():
        db.execute("set local scheduler.fake_clock = '2001-01-01Z'")
        db.execute("set local timezone = 'Asia/Kathmandu'")
        db.execute("set local intervalstyle = 'iso_8601'")
        add_job(db, starts_at="2030-01-01T00:00:00Z")
        db.execute("set constraints all immediate")
        assert one(db, "select at > '2020-01-01' from scheduler.audit")
    after = last(db)[3]
    assert (after["starts_at"], after["timeout"]) == ("2030-01-01T00:00:00+00:00", "01:00:00")
    for number in range(5):
        add_job(db, f"job {number}")
    assert one(
        db, "select bool_and(ok) from (select at >= lag(at, 1, at) over (order by n) as ok from scheduler.audit) a"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "update scheduler.audit set role = 'nobody'", "delete from scheduler.audit", "truncate scheduler.audit",
        "delete from scheduler.audit_head", "truncate scheduler.audit_head",
        "update scheduler.audit_head set n = n - 1",
        "update scheduler.audit_head set app = 'other', n = n + 1",
    ],
)  # fmt: skip
def test_what_the_audit_says_can_be_neither_changed_nor_removed(
    db: psycopg.Connection, statement: LiteralString
) -> None:
    add_job(db)
    with pytest.raises(psycopg.Error, match="the audit is append-only") as refused:
        db.execute(statement)
    assert refused.value.sqlstate == "JS003"


SECRET_SPECS: dict[str, dict[str, Any]] = {
    "a password": {"password": CANARY},
    "an environment": {"environment": {"PGPASSWORD": CANARY, "AWS_SECRET_ACCESS_KEY": CANARY}},
    "a header": {"headers": {"authorization": f"Bearer {CANARY}", "X-Api-Key": CANARY, "Cookie": CANARY}},
    "deep inside": {"a": [{"b": [{"apiKey": CANARY}]}]},
    "a structure": {"secrets": {"first": CANARY, "list": [CANARY]}},
    "a number": {"token": 730_073_007_300},
    "a url": {"url": f"https://user:{CANARY}@host:80/path"},
    "a query": {"url": f"https://host:80/path?a=1&access_token={CANARY}&b=2"},
    "a command": {"command": f"curl --password={CANARY} -H 'Authorization: Bearer {CANARY}' http://host"},
    "words": {"command": ["psql", f"postgresql://user:{CANARY}@host/db", f"--api-key={CANARY}"]},
    "json in a text": {"body": f'{{"password": "{CANARY}", "a": 1}}'},
}


@pytest.mark.parametrize("spec", SECRET_SPECS.values(), ids=SECRET_SPECS)
def test_a_secret_in_a_spec_is_masked_through_every_door(db: psycopg.Connection, spec: dict[str, Any]) -> None:
    add_job(db, spec=spec)
    db.execute("select scheduler.trigger(%s, 'nightly', %s)", [APP, Jsonb(spec)])
    db.execute("update scheduler.job set spec = '{}'")
    db.execute("update scheduler.job set spec = %s", [Jsonb(spec)])
    db.execute("delete from scheduler.job")
    text = text_of_all(db)
    assert CANARY not in text
    assert "730073007300" not in text  # longer than what hashes and instants hold by chance
    assert text.count("masked ") >= 5


def test_a_secret_that_changed_shows_that_it_did_and_one_that_did_not_is_the_same(db: psycopg.Connection) -> None:
    add_job(db, spec={"password": "one", "token": "same", "to": "a@b", "url": "http://host:8080/a?b=c@d"})
    db.execute("""update scheduler.job set spec = spec || '{"password": "two"}'""")
    _, _, before, after = last(db)
    assert before["spec"]["password"] != after["spec"]["password"]
    assert before["spec"]["token"] == after["spec"]["token"]
    assert after["spec"]["to"] == "a@b"
    assert after["spec"]["url"] == "http://host:8080/a?b=c@d", "what is none stays readable"


def test_a_mask_cannot_be_guessed_at(db: psycopg.Connection) -> None:
    query: LiteralString = "select scheduler.masked(%s, gen_random_uuid()::text) from generate_series(1, 3)"
    marks = {value["password"] for value in column(db, query, Jsonb({"password": "hunter2"}))}
    assert len(marks) == 3


def test_a_spec_of_any_depth_can_be_kept(db: psycopg.Connection) -> None:
    nested = '{"a":' * DEPTH + f'{{"password": "{CANARY}"}}' + "}" * DEPTH
    db.execute("insert into scheduler.job (app, name, executor, spec) values (%s, 'deep', 'x', %s)", [APP, nested])
    assert CANARY not in text_of_all(db)


def test_a_definition_is_written_without_its_name_and_its_secrets(db: psycopg.Connection) -> None:
    add_job(db, spec={"password": CANARY, "task": "tidy"})
    kept = one(db, "select scheduler.definition(j, 'salt') from scheduler.job j")
    assert kept["spec"]["task"] == "tidy"
    assert kept["spec"]["password"].startswith("masked ")
    assert "name" not in kept


def test_who_notes_something_by_hand_notes_it_of_himself(db: psycopg.Connection) -> None:
    db.execute("select scheduler.record(%s, 'cancel', 'run 1', null, null)", [APP])
    assert rows(db, "select role, action, object from scheduler.audit") == [(db.info.user, "cancel", "run 1")]


def test_a_copy_of_many_definitions_leaves_an_entry_for_each(db: psycopg.Connection) -> None:
    with db.cursor() as cursor, cursor.copy("copy scheduler.job (app, name, executor, spec) from stdin") as copy:
        for number in range(3_000):
            copy.write_row((f"app {number % 3}", f"job {number}", "python", '{"text": "' + "x" * 1000 + '"}'))
    assert rows(db, "select app, count(*), max(n) from scheduler.audit group by app order by app") == [
        ("app 0", 1000, 1000), ("app 1", 1000, 1000), ("app 2", 1000, 1000),
    ]  # fmt: skip
    db.execute("update scheduler.job set priority = 1")
    assert one(db, "select count(*) from scheduler.audit where action = 'edit'") == 3_000
    assert (
        rows(db, "select v.* from scheduler.audit_heads() h cross join lateral scheduler.verify_audit(h.app) v") == []
    )


def test_a_line_is_the_same_whatever_the_settings_of_the_session(db: psycopg.Connection, connect: Connect) -> None:
    add_job(db, spec={"text": 'a "quote", \\ and ü'})
    query: LiteralString = """
        select scheduler.audit_line(app, n, at, role, actor, action, object, before, after, previous)
        from scheduler.audit
    """
    other = connect()
    for setting in ("timezone = 'Asia/Tokyo'", "datestyle = 'german'", "bytea_output = 'escape'"):
        other.execute("set " + setting)
    assert column(db, query) == column(other, query)
    assert one(db, "select hash = sha256(%s) from scheduler.audit", column(db, query)[0].encode())


def test_a_login_that_may_edit_jobs_needs_no_right_on_the_audit_and_cannot_write_it(
    db: psycopg.Connection, databases: Databases
) -> None:
    role = "walclock_audit_editor"
    with db.transaction():
        db.execute(f"create role {role}")
        db.execute(f"grant usage on schema scheduler to {role}")
        db.execute(f"grant select, insert, update, delete on scheduler.job, scheduler.job_schedule to {role}")
        db.execute(f"grant select, insert, update, delete on scheduler.run, scheduler.fire, scheduler.lease to {role}")
        db.execute(f"grant select, update, delete on scheduler.pulse to {role}")
        db.execute(f"grant execute on all functions in schema scheduler to {role}")
        db.execute(f"set local role {role}")
        add_job(db)
        db.execute("update scheduler.job set priority = 7")
        db.execute("set constraints all immediate")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), db.transaction():
            db.execute("insert into scheduler.audit_pending (seals, app, action, object) values (true, 'a', 'b', 'c')")
        db.execute("reset role")
        assert one(db, "select count(*) from scheduler.audit") == 2
        raise psycopg.Rollback


def test_tokens_that_are_made_and_revoked_are_noted_for_each_of_their_apps_without_their_hashes(
    db: psycopg.Connection,
) -> None:
    made = "select scheduler.create_token('deploy', sha256('x'), 'sched_abc', '{write}', array['shop', 'mail'], null)"
    db.execute(made)
    db.execute("select scheduler.note_use('{deploy}')")
    db.execute("select scheduler.revoke_token('deploy')")
    entries = rows(db, "select app, action, object from scheduler.audit order by app, n")
    whole = [("create", "token deploy"), ("revoke", "token deploy")]
    assert entries == [(app, *one) for app in ("mail", "shop") for one in whole]
    assert "hash" not in text_of_all(db)
