"""What users type: instants, durations, specs, runs. A value that is refused is bad usage, with what would be right."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from scheduler.cron import parse_duration
from scheduler.errors import InvalidError, ScheduleError
from scheduler.model import encode_spec
from scheduler.shape import BUILT_IN, check_shape

if TYPE_CHECKING:
    _Type = click.ParamType[Any]
else:
    _Type = click.ParamType  # generic in the latest click only

Command = TypeVar("Command", bound=Callable[..., Any])

_MOST_INPUT = 8 * 1024 * 1024  # of a spec on stdin: it may be written generously, but not endlessly
_SHOWN = 60
_MOST_ID = 2**63 - 1
_MOST_PORT = 65_535


class Instant(_Type):
    """ISO 8601 with its offset."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            instant = datetime.fromisoformat(value)
            if instant.utcoffset() is None:
                self.fail(f"{value[:_SHOWN]!r} has no time zone: add Z, or an offset like +02:00", param, ctx)
            return instant.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value[:_SHOWN]!r} is no instant: write it like 2026-11-01T05:30:00Z", param, ctx)


class Duration(_Type):
    """`90s`, `1h30m`; with `zero` also `0`."""

    name = "duration"

    def __init__(self, *, zero: bool = False) -> None:
        self._zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        if self._zero and value.strip() in {"0", "0s"}:
            return timedelta(0)
        try:
            return parse_duration(value)
        except ScheduleError as error:
            self.fail(str(error), param, ctx)


class Spec(_Type):
    """A JSON object, or `-` for one on stdin. The value is the object; it is known to be storable."""

    name = "spec_json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        text = _stdin() if value == "-" else value
        try:
            spec = json.loads(text)
        except RecursionError:
            self.fail("the JSON is nested too deeply", param, ctx)
        except ValueError as error:
            self.fail(f"this is not JSON: {error}; an object like {_EXAMPLE} is needed", param, ctx)
        try:
            encode_spec(spec)
        except InvalidError as error:
            self.fail(str(error), param, ctx)
        return dict(spec)


class QueueSlots(_Type):
    """`NAME` or `NAME=SLOTS`."""

    name = "name[=slots]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int | None]:
        if isinstance(value, tuple):
            return value
        name, equals, slots = value.rpartition("=")
        if not equals:
            return value, None
        if not (slots.isascii() and slots.isdigit() and 1 <= int(slots[:10]) <= 2**31 - 1) or not name:
            self.fail(f"{value[:_SHOWN]!r}: write NAME or NAME=SLOTS, with at least 1 slot", param, ctx)
        return name, int(slots)


class Bind(_Type):
    """`HOST:PORT`, `:PORT` for loopback, `[::1]:PORT`."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, colon, port = value.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit() and int(port[:6]) <= _MOST_PORT):
            self.fail(f"{value[:_SHOWN]!r}: write HOST:PORT, like 127.0.0.1:8080", param, ctx)
        return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


_EXAMPLE = '{"command": ["echo", "hi"]}'


def check_spec(executor: str, spec: dict[str, Any]) -> None:
    """InvalidError when the spec lacks what its executor needs; a remark about an executor that is no built-in one."""
    if executor not in BUILT_IN:
        click.echo(
            f"note: {executor[:_SHOWN]!r} is not a built-in executor ({', '.join(BUILT_IN)}): "
            "a worker that has it as a plug-in must be there",
            err=True,
        )
    check_shape(executor, spec)


def of_one_run(command: Command) -> Command:
    """The arguments `[APP] RUN`, as `app` and `run`. Ids are unique over all apps unless a user made them up."""

    def convert(_: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str | None, int]:
        if len(value) not in {1, 2}:
            raise click.BadParameter("give the id of a run, with the app before it if need be", param=param)
        text = value[-1]
        if not (text.isascii() and text.isdigit() and int(text[:20]) <= _MOST_ID):
            raise click.BadParameter(f"{text[:_SHOWN]!r} is no run id: a whole number is needed", param=param)
        return (value[0] if len(value) == 2 else None), int(text)  # noqa: PLR2004  APP and RUN

    return click.argument("which", nargs=-1, required=True, metavar="[APP] RUN", callback=convert)(command)


class Variadic(click.Command):
    """`--app a b` as `--app a --app b`: an option that may be repeated takes all words up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        lists = {name for param in self.params if getattr(param, "multiple", False) for name in param.opts}
        spread: list[str] = []
        for word in args:
            if spread and not word.startswith("-") and len(spread) > 1 and spread[-2] in lists:
                spread += [spread[-2], word]
            else:
                spread.append(word)
        return super().parse_args(ctx, spread)


def _stdin() -> str:
    data = sys.stdin.buffer.read(_MOST_INPUT + 1)
    if len(data) > _MOST_INPUT:
        raise InvalidError(f"more than {_MOST_INPUT:,} bytes on stdin", hint="a spec has at most 1 MiB")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidError(f"stdin is not UTF-8: {error}") from None
