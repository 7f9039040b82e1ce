"""What the documents promise is what there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from scheduler.cli import cli
from scheduler.errors import SchedulerError

ROOT = Path(__file__).parent.parent


def commands(command: click.Command = cli, path: str = "scheduler") -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        one = command.get_command(context, name)
        assert one is not None
        assert one.name == name
        yield from commands(one, f"{path} {name}")


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", (ROOT / "docs/cli.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_command_is_documented_and_nothing_else_is() -> None:
    assert sorted(sections()) == sorted(path for path, _ in commands())


@pytest.mark.parametrize(("path", "command"), [pytest.param(*one, id=one[0]) for one in commands()])
def test_every_option_and_argument_of_a_command_is_documented(path: str, command: click.Command) -> None:
    section = sections()[path]
    documented = set(re.findall(r"^\| `(--?[a-z-]+)", section, flags=re.MULTILINE))
    options = {param.opts[0] for param in command.params if isinstance(param, click.Option)}
    assert documented == options
    for param in command.params:
        if isinstance(param, click.Argument):
            assert param.make_metavar(click.Context(command)) in section.splitlines()[2]


def test_every_sqlstate_is_documented() -> None:
    text = (ROOT / "sql/README.md").read_text(encoding="utf-8")
    states = {kind.sqlstate for kind in SchedulerError.__subclasses__() if kind.sqlstate}
    assert states == {"JS001", "JS002", "JS003", "JS004"}
    assert {state for state in states if state not in text} == set()
