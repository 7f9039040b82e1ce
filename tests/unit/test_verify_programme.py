"""The programme is drawn from its seed, and a skewed process has the clock that its file says."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from scheduler.verify import skewed
from scheduler.verify.kinds import KINDS
from scheduler.verify.options import Options
from scheduler.verify.programme import Programme


def test_a_seed_repeats_what_is_done_and_another_does_not() -> None:
    one, same = Programme(Options(seed=5)), Programme(Options(seed=5))
    other = Programme(Options(seed=6))
    assert (one.faults, one.jobs, one.tick(9)) == (same.faults, same.jobs, same.tick(9))
    assert one.skew(1, 2) == same.skew(1, 2) != one.skew(1, 3)
    assert one.faults != other.faults
    assert one.tick(9) != other.tick(9)
    assert {fault.kind for fault in one.faults} == set(KINDS)
    assert {fault.place for fault in one.faults} == {0, 1, 2, 3}


def test_load_comes_at_its_rate_and_no_key_comes_twice() -> None:
    programme = Programme(Options(seed=1, rate=77))
    orders = [order for number in range(2_000) for order in programme.tick(number)]
    assert 7_500 < len(orders) < 7_900  # 100 seconds
    assert len({order.key for order in orders}) == len(orders)
    assert {order.once for order in orders} == {order.alone for order in orders} == {True, False}


def test_faults_are_as_far_apart_as_was_asked_and_only_those_that_were() -> None:
    faults = Programme(Options(seed=1, seconds=60, every=(2.0, 4.0), faults=("kill", "pause"))).faults
    apart = [after.at - before.at for before, after in pairwise(faults)]
    assert all(2 <= one <= 4 for one in apart)
    assert {fault.kind for fault in faults} == {"kill", "pause"}
    assert Programme(Options(faults=())).faults == ()


def test_a_clock_is_off_by_what_the_file_says_and_steps_with_it(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    skewed.write(file, 300.0)
    now = skewed.clock(file, lambda: 1_000.0)
    assert now() == 1_300.0
    skewed.write(file, -3_600.0)
    assert now() == -2_600.0


def test_a_skewed_process_is_the_command_line_with_another_clock(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    skewed.write(file, 7e9)
    program = """
import runpy, sys, time
runpy.run_module = lambda *words, **more: print(words[0], sys.argv[1:], time.time() > 7e9)
sys.argv = ["x", sys.argv[1], "worker", "--app", "a"]
from scheduler.verify.skewed import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program, file], capture_output=True, text=True, check=True)
    assert done.stdout == "scheduler.cli ['worker', '--app', 'a'] True\n"


def test_services_read_no_wall_clock_but_the_one_that_is_skewed() -> None:
    """`datetime.now` could not be skewed, and a service that went by it would go unnoticed."""
    root = Path(skewed.__file__).parents[2]
    commands = {root / "scheduler/cli", root / "scheduler/bench", root / "scheduler/verify"}
    for path in [*root.glob("scheduler/**/*.py"), *root.glob("worker/**/*.py")]:
        if not commands & set(path.parents):
            assert "datetime.now(" not in path.read_text(), path
