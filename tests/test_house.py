"""The house itself: which way imports point, and that what the documents name is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from dataclasses import fields
from pathlib import Path

import pytest

from scheduler.config import Settings
from scheduler.metrics.catalogue import FAMILIES

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("sql/*.md")])
CODE = sorted([*ROOT.glob("scheduler/**/*.py"), *ROOT.glob("worker/**/*.py")])
_VARIABLE = re.compile(r"\bSCHEDULER_[A-Z_]+\b")
# What executors tell a run, and not settings of ours.
_TOLD = {"SCHEDULER_RUN_ID", "SCHEDULER_ATTEMPT", "SCHEDULER_SCHEDULED_AT", "SCHEDULER_FENCE"}


def test_imports_point_one_way() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_setting_is_documented_with_its_default() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    for one in fields(Settings):
        row = re.search(rf"^\| `{one.metadata['env']}` \| ([\d.]+)", page, re.MULTILINE)
        assert row, one.metadata["env"]
        assert float(row[1]) == one.default, one.metadata["env"]


def test_every_variable_that_the_code_reads_is_documented_and_no_other() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    read = {name for path in CODE for name in _VARIABLE.findall(path.read_text())} - _TOLD
    documented = set(_VARIABLE.findall(page)) - _TOLD
    assert {name.rstrip("_") for name in read} == {name.rstrip("_") for name in documented}


def test_every_metric_is_documented_with_its_kind_and_labels_and_no_other() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(scheduler_\w+)` \| (\w+) \| ([\w, ]*)\|", page, re.MULTILINE)
    documented = [(name, kind, tuple(filter(None, labels.strip().split(", ")))) for name, kind, labels in rows]
    assert sorted(documented) == sorted((one.name, one.kind, one.labels) for one in FAMILIES.values())


def test_no_module_but_the_catalogue_writes_the_name_of_a_metric() -> None:
    named = {path.name for path in CODE if any(f'"{name}"' in path.read_text() for name in FAMILIES)}
    assert named == {"catalogue.py"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_links_to_is_there(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_the_tests_that_guard_the_invariants_are_there() -> None:
    for path in re.findall(r"`(tests/[\w/.]+)`", (ROOT / "ARCHITECTURE.md").read_text()):
        assert (ROOT / path).exists(), path


def test_no_two_test_modules_share_a_name() -> None:
    """Pytest collects neither of two, but only where both are asked for: each directory by itself passes."""
    names = [path.name for path in ROOT.glob("tests/**/test_*.py")]
    assert {name for name in names if names.count(name) > 1} == set()


def test_an_installed_wheel_brings_its_sql_and_its_executors(tmp_path: Path, empty_dsn: str) -> None:
    """Built as a user gets it: without this checkout on the path."""
    wheels = tmp_path / "wheels"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", wheels, ROOT], check=True, timeout=200)
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    site = home / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    subprocess.run([*pip, "install", "--no-deps", "--target", site, *wheels.glob("*.whl")], check=True, timeout=200)
    # What the wheel depends on is taken from here; the wheel itself comes first, and the checkout not at all.
    dependencies = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "dependencies.pth").write_text(f"{dependencies}\n")
    python = home / "bin" / "python"
    environment = {"PATH": os.environ["PATH"], "SCHEDULER_DSN": empty_dsn}
    where = subprocess.run(
        [
            python,
            "-c",
            "import scheduler, worker.executors as e; print(scheduler.__file__); e.load(['python', 'shell'])",
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert Path(where.strip()).is_relative_to(site)
    done = subprocess.run(
        [python, "-m", "scheduler.cli", "migrate"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
