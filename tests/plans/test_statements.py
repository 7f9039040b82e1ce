"""The questions of this folder reach every statement of the functions they are about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
from pglast import parse_plpgsql

from scheduler.install import SqlFile, SqlTree
from tests.plans import test_event_statements, test_lists, test_servers, test_workers
from tests.support.questions import MODES, Question
from tests.support.reading import can_explain
from tests.support.statistics import Statistics, know

STAGES = (
    "3_claim/",
    "4_hold/heartbeat",
    "4_hold/assign",
    "4_hold/weigh",
    "5_finish/",
    "6_reclaim/",
    "7_history/",
    "1_define/withdraw",
)
QUESTIONS: list[Question] = [
    *test_workers.QUESTIONS,
    *test_servers.QUESTIONS,
    test_servers.JANITOR,
    *test_lists.CHANGES,
    *test_event_statements.QUESTIONS,
]
_READS = re.compile(r"\b(from|join|into|update)\s+scheduler\.\w+\b(?!\s*\()", re.IGNORECASE)  # a table
# One update by key.
_ELSEWHERE = {"4_hold/heartbeat_server"}


def queries(tree: Any) -> Iterator[str]:
    """The text of every statement and expression of a parsed body."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key == "query" and isinstance(value, str):
                yield value.replace("public.", "scheduler.").replace("text[]", "")
            yield from queries(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from queries(value)


def normal(text: str) -> str:
    """As both the parser and the server give it: without comments and whatever room is between the words."""
    return re.sub(r"\s+", "", re.sub(r"--[^\n]*", "", text)).lower().rstrip(";")


def statements(one: SqlFile) -> set[str]:
    text = re.sub(r"scheduler\.\w+\[\]", "text[]", one.text).replace("scheduler.", "public.")
    return {normal(query) for query in queries(parse_plpgsql(text)) if _READS.search(query)}


async def test_every_statement_of_a_function_was_planned_and_measured(
    large: psycopg.Connection, large_dsn: str
) -> None:
    async with await psycopg.AsyncConnection.connect(large_dsn) as conn:
        assert await can_explain(conn)
    know(large, Statistics.FRESH)
    seen: set[str] = set()
    for question in QUESTIONS:
        found = await question.read(large_dsn, MODES[0])
        seen |= {normal(plan["Query Text"]).replace("text[]", "") for plan in found.plans}
    missing = [
        (one.name, statement)
        for one in SqlTree.read().functions
        if one.name.startswith(STAGES) and one.name not in _ELSEWHERE and "plpgsql" in one.text
        for statement in statements(one)
        if statement not in seen
    ]
    assert missing == []
