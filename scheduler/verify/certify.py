"""One pass: everything is started, maltreated, left to recover and asked what became of it; then nothing of it is left.

├───── clean ─────┼──────── faults ────────┼──── recovery ────┤ check
└────────── load and jobs ─────────────────┘ nobody is hit, and what is open may end
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg

from scheduler.errors import ConfigError
from scheduler.verify import evidence as account
from scheduler.verify import recorder
from scheduler.verify.evidence import Evidence, Window
from scheduler.verify.faults import Faults
from scheduler.verify.figures import judge
from scheduler.verify.findings import Verdict
from scheduler.verify.fleet import Fleet
from scheduler.verify.kinds import KINDS, NEEDS_OWN_SERVER
from scheduler.verify.load import EFFECT, Load, spec
from scheduler.verify.options import Options
from scheduler.verify.programme import FIRES, MANY_ATTEMPTS, Programme
from scheduler.verify.scratch import Scratch, scratch, statement

_SETTLED = 3.0  # seconds from writing the jobs to their first instant, so that it can be kept
_LOOK = 0.2  # seconds between two looks at what is still open
_FINISHED = 0.5  # seconds for the last reports

Say = Callable[[str, float], None]
"""Told what is being done, and how many seconds it takes; 0 for as long as it takes."""


def possible(dsn: str | None, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The faults that can be done: all that were asked for, none for every one there can be.

    ConfigError for one that needs a PostgreSQL of its own, on one of the user's.
    """
    if dsn is None:
        return asked or tuple(KINDS)
    for kind in asked:
        if kind in NEEDS_OWN_SERVER:
            raise ConfigError(
                f"the fault {kind} is not done to a server that others use",
                hint="leave the DSN away, SCHEDULER_DSN and DATABASE_URL too, for an embedded one",
            )
    return asked or tuple(kind for kind in KINDS if kind not in NEEDS_OWN_SERVER)


def certify(
    dsn: str | None,
    options: Options,
    *,
    say: Say = lambda _what, _seconds: None,
    keep: Path | None = None,
    prepare: Callable[[str], None] = lambda _: None,
) -> Verdict:
    """Run the programme on a scratch database of the server, or of an embedded one, and judge what came of it.

    Whatever happens, Ctrl-C included, processes, files and the database are gone afterwards; with `keep`, the record
    and the logs of the processes are left in that directory. `prepare` is given the DSN of the scratch database once
    the schema is in it: tests break it there.
    """
    options = replace(options, faults=possible(dsn, options.faults))
    mark = f"verify_{secrets.token_hex(4)}"
    with ExitStack() as stack:
        folder = stack.enter_context(_folder(mark, keep))
        say("making a database", 0.0)
        place = stack.enter_context(scratch(dsn, mark, progress=lambda line: say(line, 0.0)))
        prepare(place.dsn)
        return judge(_pass(place, options, folder, say, stack))


def _pass(place: Scratch, options: Options, folder: Path, say: Say, stack: ExitStack) -> Evidence:
    programme = Programme(options)
    record = recorder.Recorder(folder / "record")
    stack.callback(record.close)
    fleet = Fleet(programme, place, folder, record.path)
    stack.callback(fleet.end)
    load = Load(programme, place)
    stack.callback(load.close)
    faults = Faults(programme, place, fleet, load, record)
    stack.callback(faults.close)

    say("starting servers and workers", 0.0)
    fleet.start()
    before = place.offset()
    starts = time.monotonic() + before + _SETTLED
    ends = starts + options.clean + options.seconds
    _add_jobs(place, programme, starts, ends)
    began = time.monotonic()
    load.start()
    say("load without faults", options.clean)
    faults.wait(began + options.clean)
    say("faults", options.seconds)
    faulty = time.monotonic()
    faults.run()
    window = Window(began=began, faults=faulty, ended=time.monotonic())
    load.close()
    faults.recover()
    say("recovery", 0.0)
    for straggler in faults.stragglers:
        while straggler.is_busy:
            faults.wait(time.monotonic() + _LOOK)
    _settle(place, faults, options.patience, ends - before)
    say("checking", 0.0)
    return Evidence(
        offset=(before + place.offset()) / 2,
        window=window,
        late=options.late,
        sent=load.sent,
        due=account.due(programme.jobs, starts, ends),
        once_jobs=frozenset(job.name for job in programme.jobs if job.once),
        record=recorder.read(record.path),
        attempts=account.read_attempts(place),
        fires=account.read_fires(place),
        open=account.read_open(place),
        workers=account.read_workers(place),
        done=faults.done,
        exits=fleet.exits,
        accepted=[what for straggler in faults.stragglers for what in straggler.accepted],
    )


def _add_jobs(place: Scratch, programme: Programme, starts: float, ends: float) -> None:
    with place.connect("jobs") as conn, conn.transaction():
        for job in programme.jobs:
            schedule = f"{','.join(map(str, job.seconds))} * * * * *"
            attempts = 1 if job.once else MANY_ATTEMPTS
            text = spec(EFFECT, job.name, job.takes)
            conn.execute(statement("add_job"), [FIRES, job.name, schedule, text, attempts, starts, ends])


def _settle(place: Scratch, faults: Faults, patience: float, ends: float) -> None:
    """Until nothing is open, or nothing has moved for long enough. `ends`: after the last instant of the jobs."""
    faults.wait(ends + _FINISHED)
    left, moved = None, time.monotonic()
    while time.monotonic() < moved + patience:
        try:
            with place.connect("settle") as conn:
                now = conn.execute(statement("unfinished")).fetchone()
        except psycopg.OperationalError:
            now = left
        if now is not None and not any(now[:3]):
            break
        if now != left:
            left, moved = now, time.monotonic()
        faults.wait(time.monotonic() + _LOOK)
    faults.wait(time.monotonic() + _FINISHED)


@contextmanager
def _folder(mark: str, keep: Path | None) -> Iterator[Path]:
    """Where the record and the logs are."""
    folder = Path(tempfile.mkdtemp(prefix=f"walclock-{mark}-"))
    try:
        yield folder
    finally:
        if keep is not None:
            shutil.copytree(folder, keep, dirs_exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
