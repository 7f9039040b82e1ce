"""Drives the functions that move runs, in any order that hypothesis thinks of, and compares each step with a model."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, LiteralString, cast

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.errors import UniqueViolation

from tests.support.builders import APP, add_run, add_worker, column, one, rows
from tests.support.run_model import DEAD_AFTER, START, Entry, Lease, Model, Report, Run, Worker

BOUNDED = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
FINISH: LiteralString = """
    select scheduler.finish(
        %s, %s, %s, %s::bigint[], %s::text[], p_retry_after => %s::interval[], p_max_attempts => %s::smallint[]
    )
"""
CLAIM: LiteralString = """
    select c.lease, c.id, c.attempt, c.lost
    from scheduler.claim(%s, %s, 'default', %s, null, %s, %s, p_keyed => false) c
"""
CLAIM_KEYED: LiteralString = """
    select c.lease, c.id from scheduler.claim(%s, %s, p_limit => %s, p_keyed => true) c
"""
SLOTS = [("x", 1), ("y", 2), ("z", 3)]
any_of = st.integers(0, 50)  # the how-manieth of what there is
counts = st.integers(1, 3)
limits = st.sampled_from([3, 9, 2, 1])  # 9: the third loss in a row is not the last attempt anyway
priorities = st.sampled_from([0, -1, 1])
seconds = st.sampled_from([timedelta(), timedelta(seconds=2), timedelta(seconds=6)])
outcomes = st.sampled_from(["failed", "lost", "succeeded", "cancelled"])
reports = st.tuples(any_of, outcomes, st.none() | seconds, st.sampled_from([None, None, None, 0, 1, 3]))


class Runs(RuleBasedStateMachine):
    """Calls a function, and tells the model what it was asked. Kindred verbs share a rule, lest one starves another."""

    def __init__(self, db: psycopg.Connection) -> None:
        super().__init__()
        self.db = db
        self.model = Model()
        self.leases: dict[int, int] = {}  # every lease there ever was, and whose

    @initialize()
    def begins_empty(self) -> None:
        self.db.execute("""
            delete from scheduler.run; delete from scheduler.lease; delete from scheduler.run_key;
            delete from scheduler.worker; delete from scheduler.app; delete from scheduler.slot;
            truncate scheduler.history -- read in the order of places, which a delete would free for others
        """)
        self.db.execute("select setseed(0.5)")  # backoff draws the same again when hypothesis tries the same again
        self.move_to(START)
        self.register_who_is_missing()

    def move_to(self, instant: datetime) -> None:
        self.model.now = instant
        self.db.execute("select set_config('scheduler.fake_clock', %s, false)", [str(instant)])

    def register_who_is_missing(self) -> None:
        while len(self.model.alive) < 2:
            self.model.workers[add_worker(self.db)] = Worker(self.model.now)

    def one(self, query: LiteralString, *parameters: Any) -> Any:
        return one(self.db, query, APP, *parameters)

    def lease_at(self, place: int) -> Lease:
        return list(self.model.leases.values())[place % len(self.model.leases)]

    @rule(by=seconds, silent=st.integers(0, 2), retires=st.booleans(), reclaim=st.sampled_from([True, True, False]))
    def time_passes_and_a_worker_falls_silent(self, by: timedelta, silent: int, retires: bool, reclaim: bool) -> None:
        worker = [*self.model.alive, 0][silent]
        if worker and retires:
            self.db.execute("select scheduler.retire_worker(%s)", [worker])
            self.model.workers[worker].gone = True
        self.pass_time(by, silent=worker)
        if reclaim:
            self.reclaim()
        self.register_who_is_missing()

    def pass_time(self, by: timedelta, *, silent: int) -> None:
        self.move_to(self.model.now + by + timedelta(milliseconds=1))
        for worker in self.model.alive:
            if worker != silent:
                self.send_heartbeat(worker)

    def reclaim(self) -> None:
        taken = rows(self.db, "select r.lease, r.worker, r.runs, r.lost from scheduler.reclaim(%s) r", DEAD_AFTER)
        assert taken == self.model.reclaim()

    def send_heartbeat(self, worker: int) -> None:
        ((now, cancels),) = rows(self.db, "select h.now, h.cancels from scheduler.heartbeat(%s) h", worker)
        held = [lease for lease in self.model.leases.values() if lease.worker == worker]
        asked = [run for lease in held for run in lease.cancel & {*lease.open}]
        assert (now, sorted(cancels)) == (self.model.now, sorted(asked))
        self.model.workers[worker].seen = now

    @rule(key=st.sampled_from(["a", "b"]), enqueue=st.booleans())
    def somebody_adds_a_run_with_a_key(self, key: str, enqueue: bool) -> None:
        there = self.model.holder_of(key)
        if not enqueue and there is not None:
            with pytest.raises(UniqueViolation):
                add_run(self.db, unique_key=key)
            return
        ask: LiteralString = "select scheduler.enqueue(%s, 'python', unique_key => %s)"
        run = self.one(ask, key) if enqueue else add_run(self.db, unique_key=key)
        assert there in {None, run}
        if there is None:
            self.model.add(Run(run, self.model.now, key))

    @rule(count=counts, kind=st.tuples(limits, priorities), wait=seconds, limit=st.integers(0, 4), begin=st.booleans())
    def somebody_adds_runs_and_a_worker_claims(
        self, count: int, kind: tuple[int, int], wait: timedelta, limit: int, begin: bool
    ) -> None:
        # One rule: of three that each wait for the one before, hypothesis rarely reaches the third.
        run_at, (max_attempts, priority) = self.model.now + wait, kind
        for _ in range(count):
            run = add_run(self.db, run_at=run_at, priority=priority, max_attempts=max_attempts)
            self.model.add(Run(run, run_at, None, max_attempts, priority))
        self.claim(self.model.alive[limit % 2], limit, timedelta(seconds=6), begin=begin)

    @rule(slot=st.sampled_from(SLOTS), kind=st.tuples(limits, priorities), count=counts, limit=st.integers(1, 4))
    def somebody_adds_runs_with_a_concurrency_key_and_a_worker_claims(
        self, slot: tuple[str, int], kind: tuple[int, int], count: int, limit: int
    ) -> None:
        max_attempts, priority = kind
        for _ in range(count):
            run = add_run(
                self.db,
                concurrency_key=slot[0],
                concurrency_limit=slot[1],
                priority=priority,
                max_attempts=max_attempts,
            )
            self.model.add(Run(run, self.model.now, None, max_attempts, priority, slot=slot))
        self.claim_keyed(self.model.alive[0], limit)

    def claim_keyed(self, worker: int, limit: int) -> None:
        may = {key: self.model.may_start(key) for key, _ in SLOTS}
        taken = rows(self.db, CLAIM_KEYED, APP, worker, limit)
        runs = [run for _, run in taken]
        assert len(runs) == min(limit, sum(map(len, may.values()))), "no slot is exceeded, and none left unused"
        for each in may.values():
            assert [run for run in runs if run in each] == each[: len({*runs} & {*each})], "in the order of the key"
        assert {*runs} <= {run for each in may.values() for run in each}
        if taken:
            lease = taken[0][0]
            self.leases[lease] = worker
            self.model.claimed(Lease(lease, worker, begun=True, open=runs))

    @precondition(lambda self: self.model.due(timedelta(), 1))
    @rule(limit=st.integers(1, 4), begin=st.booleans())
    def a_worker_claims_what_is_due(self, limit: int, begin: bool) -> None:
        self.claim(self.model.alive[0], limit, timedelta(), begin=begin)

    def claim(self, worker: int, limit: int, horizon: timedelta, *, begin: bool) -> None:
        taken = rows(self.db, CLAIM, APP, worker, limit, horizon, begin)
        expected = [self.model.runs[run] for run in self.model.due(horizon, limit)]
        assert [row[1:] for row in taken] == [(run.id, run.attempt + 1, run.lost) for run in expected]
        if taken:
            lease = taken[0][0]
            assert lease > max(self.leases, default=0), "a later lease has the greater id"
            self.leases[lease] = worker
            self.model.claimed(Lease(lease, worker, begin, [run.id for run in expected]))

    @precondition(lambda self: self.model.leases)
    @rule(place=any_of, paused=st.sampled_from([False, False, True]))
    def a_worker_begins(self, place: int, paused: bool) -> None:
        self.begin(self.lease_at(place), paused=paused)

    def begin(self, lease: Lease, *, paused: bool) -> None:
        if paused:
            assert self.one("select scheduler.pause(%s)") is True
            assert rows(self.db, CLAIM, APP, self.model.alive[0], 9, timedelta(), True) == []
        expected = self.model.begin(lease.id, lease.worker, paused=paused)
        gone = self.one("select scheduler.begin(%s, %s, %s)", lease.worker, lease.id)
        assert (gone if gone is None else set(gone)) == expected
        if paused:
            assert self.one("select scheduler.resume(%s)") is True

    @precondition(lambda self: self.model.leases)
    @rule(place=any_of, told=st.lists(reports, min_size=1, max_size=2) | st.none())
    def a_worker_finishes(self, place: int, told: list[Any] | None) -> None:
        lease = self.lease_at(place)
        if told is None:
            counted = self.one("select scheduler.finish(%s, %s, %s)", lease.worker, lease.id)
            assert counted == self.model.finish(lease.id, lease.worker, None)
            return
        some = [*lease.open, *self.model.runs, 0]  # its own, also ended ones and those of others
        given = {run: Report(run, *rest) for place, *rest in told for run in [some[place % len(some)]]}
        counted = self.one(
            FINISH, lease.worker, lease.id, list(given), [r.outcome for r in given.values()],
            [r.retry_after for r in given.values()], [r.max_attempts for r in given.values()],
        )  # fmt: skip
        assert counted == self.model.finish(lease.id, lease.worker, given.values())

    @precondition(lambda self: self.model.leases)
    @rule(place=any_of, some=st.none() | st.lists(any_of, max_size=3))
    def a_worker_releases(self, place: int, some: list[int] | None) -> None:
        lease = self.lease_at(place)
        runs = None if some is None else [[*lease.open, 0][place % (len(lease.open) + 1)] for place in some]
        back = self.one("select scheduler.release(%s, %s, %s, %s::bigint[])", lease.worker, lease.id, runs)
        assert back == self.model.release(lease.id, lease.worker, runs)

    @precondition(lambda self: self.model.leases)
    @rule()
    def a_worker_dies_of_what_it_runs(self) -> None:
        lease = self.lease_at(0)
        self.begin(lease, paused=False)
        self.pass_time(timedelta(seconds=6), silent=lease.worker)
        self.reclaim()
        self.register_who_is_missing()
        self.claim(self.model.alive[0], 4, timedelta(), begin=True)
        self.claim_keyed(self.model.alive[0], 4)

    @precondition(lambda self: self.leases)
    @rule(place=any_of, worker=any_of)
    def somebody_reports_who_holds_nothing(self, place: int, worker: int) -> None:
        lease = list(self.leases)[place % len(self.leases)]
        worker = list(self.model.workers)[worker % len(self.model.workers)]
        if self.model.held(lease, worker) is None:
            assert self.one("select scheduler.begin(%s, %s, %s)", worker, lease) is None
            assert self.one("select scheduler.finish(%s, %s, %s)", worker, lease) == 0
            assert self.one("select scheduler.release(%s, %s, %s)", worker, lease) == 0
        if self.model.workers[worker].gone:
            self.is_refused("JS004", CLAIM, APP, worker, 1, timedelta(), True)
            self.is_refused("JS004", "select scheduler.heartbeat(%s)", worker)

    @precondition(lambda self: self.model.runs)
    @rule(run=any_of)
    def somebody_cancels(self, run: int) -> None:
        open_ones = [run for lease in self.model.leases.values() for run in lease.open]
        run = [*open_ones, *open_ones, *self.model.runs, 0][run % (2 * len(open_ones) + len(self.model.runs) + 1)]
        assert self.one("select scheduler.cancel(%s, %s)", run) is self.model.cancel(run)

    @precondition(lambda self: self.model.runs)
    @rule(run=any_of)
    def somebody_retries(self, run: int) -> None:
        run = [*self.model.runs, 0][run % (len(self.model.runs) + 1)]
        old = self.model.runs.get(run)
        if old is None or not old.ended:
            self.is_refused("JS003" if old else "JS002", "select scheduler.retry(%s, %s)", APP, run)
        elif self.model.holder_of(old.key) is not None:
            self.is_refused("23505", "select scheduler.retry(%s, %s)", APP, run)
        else:
            new = self.one("select scheduler.retry(%s, %s)", run)
            self.model.add(Run(new, self.model.now, old.key, old.max_attempts, old.priority, slot=old.slot))

    def is_refused(self, sqlstate: str, query: LiteralString, *parameters: Any) -> None:
        with pytest.raises(psycopg.Error) as refused:
            self.db.execute(query, parameters)
        assert refused.value.sqlstate == sqlstate

    @invariant()
    def every_run_is_in_the_one_place_where_it_belongs(self) -> None:
        self.backoff_stays_within_its_bounds()
        model = self.model.runs.values()
        pending = rows(self.db, "select r.id, r.run_at, r.attempt, r.lost from scheduler.run r order by r.id")
        assert pending == sorted((run.id, run.run_at, run.attempt, run.lost) for run in model if run.pending)
        leases = rows(
            self.db,
            """
            select l.id, l.worker, l.begun_at is not null, array(
                select r.id from unnest(l.runs) r where r.id <> all (coalesce(l.done, '{}'))
            ) from scheduler.lease l order by l.id
        """,
        )
        assert leases == [(e.id, e.worker, e.begun, e.open) for _, e in sorted(self.model.leases.items())]
        ended = column(self.db, "select h.id from scheduler.history h where h.retry_at is null")
        assert sorted(ended) == sorted(run.id for run in model if run.ended), "exactly one end"

    def backoff_stays_within_its_bounds(self) -> None:
        for run in [run for run in self.model.runs.values() if run.latest and run.pending]:
            (run_at,) = column(self.db, "select r.run_at from scheduler.run r where r.id = %s", run.id)
            assert run.run_at <= run_at <= cast("Any", run.latest)
            run.run_at, run.latest = run_at, None

    @invariant()
    def a_key_is_taken_while_its_run_is_pending_or_running(self) -> None:
        taken = dict(rows(self.db, "select k.unique_key, k.run_id from scheduler.run_key k"))
        assert taken == {run.key: run.id for run in self.model.runs.values() if run.key and not run.ended}

    @invariant()
    def a_slot_is_taken_while_its_run_is_in_a_lease(self) -> None:
        assert dict(rows(self.db, "select s.run_id, s.concurrency_key from scheduler.slot s")) == self.model.slots

    @invariant()
    def the_view_has_every_run_once_and_in_its_state(self) -> None:
        shown = rows(self.db, "select r.id, r.state, r.attempt, r.worker, r.fence from scheduler.runs r order by r.id")
        assert [row[:3] for row in shown] == [self.shown(run) for _, run in sorted(self.model.runs.items())]
        holders = {row[0]: row[3:] for row in shown if row[1] == "running"}
        running = {
            run: (lease.worker, lease.id) for lease in self.model.leases.values() if lease.begun for run in lease.open
        }
        assert holders == running

    def shown(self, run: Run) -> tuple[int, str, int]:
        if run.ended:
            return run.id, run.past[-1].outcome, run.attempt
        running = run.lease is not None and self.model.leases[run.lease].begun
        return run.id, "running" if running else "pending", run.attempt + running

    @invariant()
    def history_counts_attempts_without_a_gap_and_fences_only_grow(self) -> None:
        written: dict[int, list[Entry]] = {run: [] for run in self.model.runs}
        for run, *entry in rows(
            self.db,
            """
            select h.id, h.attempt, h.outcome, h.retry_at is not null, h.fence, h.started_at is not null
            from scheduler.history h order by h.ctid
        """,
        ):
            written[run].append(Entry(*entry))
        assert written == {run.id: run.past for run in self.model.runs.values()}
        for entries in written.values():
            tried = [entry for entry in entries if entry.started]
            assert [entry.attempt for entry in tried] == list(range(1, len(tried) + 1))
            fences = [cast("int", entry.fence) for entry in tried]
            assert fences == sorted({*fences})
            assert [entry.again for entry in entries[:-1]] == [True] * (len(entries) - 1), "nothing follows an end"


def test_runs_keep_their_promises_whatever_is_done_to_them(db: psycopg.Connection) -> None:
    run_state_machine_as_test(lambda: Runs(db), settings=BOUNDED)  # type: ignore[arg-type]  # any factory will do
