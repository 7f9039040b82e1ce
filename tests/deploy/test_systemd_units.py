"""The units, as systemd's own tools read them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from scheduler.config import Settings
from scheduler.loop import SLACK, STEP_TIMEOUT
from tests.support.fleet import ROOT

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
MOST_EXPOSED = 20  # tenths, of ten: what systemd calls OK
LAST_WORDS = 5.0


def value(unit: Path, name: str) -> float:
    found = re.search(rf"^{name}=(\d+)$", unit.read_text(), re.MULTILINE)
    assert found, f"{unit.name} has no {name}"
    return float(found[1])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_understands_the_unit(unit: Path, tmp_path: Path) -> None:
    """With a program that is there: it looks for that of ExecStart."""
    program = tmp_path / "scheduler"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/walclock/bin/scheduler", str(program)))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_may_do_little(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", f"--threshold={MOST_EXPOSED}", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_watchdog_waits_for_longer_than_a_step_may_take(unit: Path) -> None:
    """Else systemd would kill a process that breaks the step off by itself a moment later."""
    floor = Settings().poll
    assert value(unit, "WatchdogSec") > floor + STEP_TIMEOUT + SLACK


def test_a_worker_may_use_up_its_grace_before_it_is_killed() -> None:
    unit = next(unit for unit in UNITS if "worker" in unit.name)
    patience = 12.0  # for what does not let itself be stopped, as docs/configuration.md has it
    assert value(unit, "TimeoutStopSec") > Settings().grace + patience + 2 * LAST_WORDS
