"""What runs write: as lines, capped, and all of it in the database's order."""

from __future__ import annotations

import time
from typing import Any, cast

import psycopg
import pytest

from scheduler.clock import DatabaseClock
from scheduler.link import Connection
from worker import journal as journals
from worker import store
from worker.journal import HELD, LAST, RUN_BYTES, RUN_LINES, Journal, SpanJournal
from worker.lines import LONGEST, Lines, whole

RUN = ("shop", 7, 1)


class Database(list[store.Line]):
    """Takes lines as `append_log` does; refuses those with a character that it does not know."""

    unknown = "\0"

    async def append_log(self, _conn: Any, app: str, lines: list[store.Line]) -> None:
        if any(self.unknown in line.text for line in lines):
            raise psycopg.DataError("no equivalent in encoding LATIN1")
        assert {line.app for line in lines} == {app}
        self += lines

    def texts(self, stream: str | None = None) -> list[str]:
        return [line.text for line in self if stream in (None, line.stream)]


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    made = Database()
    monkeypatch.setattr(store, "append_log", made.append_log)
    return made


@pytest.fixture
def journal() -> Journal:
    return Journal(DatabaseClock())


async def written(journal: Journal) -> None:
    await journal.flush(cast("Connection", None))  # nothing of it reaches a connection here
    assert not journal


@pytest.mark.parametrize("size", [1, 2, 5, 1_000])
def test_a_line_is_whole_however_many_pieces_it_came_in(size: int) -> None:
    text = "one\n\ntwo\r\nth\u00e9 \x0b third\x85 \u2028end\nno end"
    lines, found = Lines(), []
    for at in range(0, len(text), size):
        found += lines.cut(text[at : at + size])
    assert found == ["one", "", "two", "th\u00e9 \x0b third\x85 \u2028end"]
    assert (lines.end(), lines.end()) == (["no end"], [])


@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_of_a_progress_bar_its_last_state_is_a_line(size: int) -> None:
    text = "".join(f"{n} %\r" for n in range(100)) + "100 %\ndone\r\n"
    lines, found = Lines(), []
    for at in range(0, len(text), size):
        found += lines.cut(text[at : at + size])
    assert found == ["100 %", "done"]


def test_a_progress_bar_that_goes_on_shows_a_state_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("worker.lines.time.monotonic", lambda: now)
    lines, found = Lines(), []
    for n in range(1, 101):
        now = n / 25
        found += lines.cut(f"\r{n} %")
    assert found == ["25 %", "50 %", "75 %"]
    assert lines.cut("\n") == ["100 %"]


def test_a_long_line_is_cut_and_says_how_much_is_missing() -> None:
    lines = Lines()
    for _ in range(100):
        assert lines.cut("x" * 1_000) == []
    assert lines.cut("\nnext\n") == [f"{'x' * LONGEST}… {100_000 - LONGEST:,} more characters", "next"]
    assert whole("y" * (LONGEST + 1)) == [f"{'y' * LONGEST}… 1 more characters"]


def test_a_message_is_lines_at_once_and_an_empty_one_is_one() -> None:
    texts = ("", "a", "a\n", "a\nb", "a\r\n\nb\r")
    assert [whole(text) for text in texts] == [
        [""],
        ["a"],
        ["a"],
        ["a", "b"],
        ["a", "", "b"],
    ]


async def test_streams_do_not_mix_and_the_end_of_a_run_ends_its_lines(journal: Journal, database: Database) -> None:
    for stream, text in (("stdout", "o"), ("stderr", "e"), ("stdout", "ut\nla"), ("task", "said"), ("stderr", "rr")):
        journal.write(*RUN, stream, text)
    await written(journal)
    assert [(line.stream, line.text) for line in database] == [("stdout", "out"), ("task", "said")]
    journal.close(*RUN)
    await written(journal)
    assert [(line.stream, line.text) for line in database[2:]] == [("stdout", "la"), ("stderr", "err")]
    assert [line.number for line in database] == [1, 2, 3, 4]


async def test_two_apps_may_have_a_run_of_the_same_number(journal: Journal, database: Database) -> None:
    for app in ("a", "b", "a"):
        journal.write(app, 7, 1, "stdout", "x\n")
    await written(journal)
    assert sorted((line.app, line.number) for line in database) == [("a", 1), ("a", 2), ("b", 1)]


async def test_what_a_task_that_was_given_up_goes_on_to_say_is_not_kept(journal: Journal, database: Database) -> None:
    journal.write(*RUN, "task", "in time")
    journal.close(*RUN)
    journal.write(*RUN, "task", "late")
    journal.write("shop", 7, 2, "task", "the next attempt")
    await written(journal)
    assert database.texts() == ["in time", "the next attempt"]


@pytest.mark.parametrize(("line", "most"), [("x", RUN_LINES), ("y" * 4_096, RUN_BYTES // 4_096)])
async def test_of_a_run_that_writes_without_end_the_first_and_the_last_lines_are_kept(
    journal: Journal, database: Database, line: str, most: int
) -> None:
    journal.write(*RUN, "stderr", "began\nhalf")
    for _ in range(most + 1_000):
        journal.write(*RUN, "stdout", f"{line}\n")
    journal.write(*RUN, "stdout", "the end\nno end")
    journal.close(*RUN)
    await written(journal)
    texts = database.texts()
    full, out = (next(at for at, text in enumerate(texts) if said in text) for said in ("log is full", "were left out"))
    assert (full, out) == (most, most + 1)
    assert (texts[:2], texts[2:full]) == (["began", line], [line] * (full - 2))
    assert database.texts("stdout")[-2:] == ["the end", "no end"]
    assert database.texts("stderr") == ["began", "half"]
    assert len(texts) - out - 1 == (LAST if line == "x" else 5) + 1, "of lines of 4 KiB three are whole in 16 KiB"
    assert [one.number for one in database] == list(range(1, len(database) + 1))


async def test_every_line_is_kept_or_counted(journal: Journal, database: Database) -> None:
    count = RUN_LINES + 5_000
    journal.write(*RUN, "stdout", "".join(f"{n}\n" for n in range(count)))
    journal.close(*RUN)
    await written(journal)
    kept = database.texts("stdout")
    left_out = int(database.texts("scheduler")[1].split()[1].replace(",", ""))
    assert (len(kept), left_out) == (RUN_LINES + LAST, count - RUN_LINES - LAST)
    assert kept == [str(n) for n in [*range(RUN_LINES), *range(count - LAST, count)]]


async def test_a_command_that_writes_without_end_costs_little_once_its_log_is_full(journal: Journal) -> None:
    piece = "y\n" * 32_768
    journal.write(*RUN, "stdout", piece)
    began = time.process_time()
    for _ in range(1_000):
        journal.write(*RUN, "stdout", piece)
    assert time.process_time() - began < 0.5, "65 MB; to cut them into lines takes 2 s"


async def test_lines_that_the_database_does_not_take_in_time_are_counted(
    journal: Journal, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "HELD", 10)
    for n in range(15):
        journal.write(*RUN, "task", f"{n}")
    await written(journal)
    journal.write(*RUN, "task", "again")
    await written(journal)
    assert database.texts()[:10] == [str(n) for n in range(10)]
    assert "5 lines were not kept" in database.texts()[10]
    assert (database.texts()[11:], HELD) == (["again"], 100_000)


async def test_a_character_that_the_database_does_not_know_is_written_as_its_escape(
    journal: Journal, database: Database
) -> None:
    database.unknown = "\u20ac"
    journal.write(*RUN, "task", "5 \u20ac\nand more")
    await written(journal)
    assert database.texts() == ["5 \\u20ac", "and more"]


async def test_what_postgresql_cannot_store_is_replaced(journal: Journal, database: Database) -> None:
    journal.write(*RUN, "task", "a\0b \ud800")
    await written(journal)
    assert database.texts() == ["a\ufffdb \ufffd"]


async def test_only_the_first_line_after_a_silence_wakes(journal: Journal, database: Database) -> None:
    woken = []
    journal.awake = lambda: woken.append(len(database))
    journal.write(*RUN, "stdout", "no line yet")
    assert woken == []
    for _ in range(3):
        journal.write(*RUN, "stdout", "\n")
    await written(journal)
    journal.write(*RUN, "stdout", "\n")
    assert woken == [0, 3]


async def test_fires_that_share_a_run_share_its_numbers_and_its_cap(database: Database) -> None:
    journal = SpanJournal(DatabaseClock())
    for n in range(3):
        journal.write(*RUN, "stdout", f"fire {n}")
        journal.close(*RUN)
    journal.end("shop", 7)
    await written(journal)
    assert [(line.number, line.text) for line in database] == [(1, "fire 0"), (2, "fire 1"), (3, "fire 2")]
