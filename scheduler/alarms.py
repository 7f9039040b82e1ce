"""An alarm as people define it. What makes no sense is refused here, whichever door it comes by."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, get_args

from scheduler.errors import InvalidError
from scheduler.model import holds_nul

Kind = Literal["failed", "failing", "poison", "missed", "late", "no_success", "no_worker"]
KINDS: tuple[Kind, ...] = get_args(Kind)
COUNTED: tuple[Kind, ...] = ("failed", "failing", "poison", "missed")
"""What happens, and can so be counted; the others are states."""
SECRET = r"^\$\{secret:[A-Za-z0-9_][A-Za-z0-9_.\-]{0,62}\}$"  # noqa: S105  how the name of one is written
HOOK = r"^(https?://|\$\{secret:)"
ADDRESS = r"^[^@\s,<>\x00-\x20\x7f-\xa0]+@[^@\s,<>\x00-\x20\x7f-\xa0]+$"
_SHOWN = 100

Channel = dict[str, Any]
"""As it is stored: `{"channel": "slack", "url": "${secret:NAME}"}`; docs/alarms.md has the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAlarm:
    """A rule to be written; the defaults are those of the table. InvalidError for one that makes no sense."""

    app: str
    name: str
    kind: str
    channels: Sequence[Channel]
    job: str | None = None
    times: int = 1
    within: timedelta = timedelta(minutes=10)
    gather: timedelta = timedelta(seconds=10)
    pause: timedelta = timedelta(minutes=5)
    repeat: timedelta = timedelta(hours=4)

    def __post_init__(self) -> None:
        if self.times > 1 and self.kind not in COUNTED:
            raise InvalidError(f"times is for {', '.join(COUNTED)}: {self.kind} is a state, and not counted")
        if self.kind == "no_worker" and self.job is not None:
            raise InvalidError("job is not for no_worker: that is about an app")
        if not self.channels:
            raise InvalidError("tell somebody: over a webhook, slack, dingtalk or email")
        for channel in self.channels:
            _check(channel)
        if holds_nul(json.dumps(self.channels)):
            raise InvalidError("a channel holds a NUL character, which PostgreSQL does not store")


def _check(channel: Channel) -> None:
    kind = channel["channel"]
    if kind in {"slack", "dingtalk"}:
        for key in ("url", "secret"):
            if key in channel and not re.fullmatch(SECRET, channel[key]):  # not shown: it may be what is to stay secret
                raise InvalidError(
                    f"the {key} of {kind} takes the name of a secret, ${{secret:NAME}}:"
                    " whoever knows the value can write there",
                    hint="give the value to the worker as SCHEDULER_SECRET_<NAME>",
                )
    elif kind == "webhook" and not re.match(HOOK, channel["url"]):
        raise InvalidError(
            f"the webhook {channel['url'][:_SHOWN]!r} must begin with http:// or https://, or name a secret"
        )
    elif kind == "email":
        wrong = next((one for one in channel["to"] if not re.fullmatch(ADDRESS, one)), None)
        if wrong is not None:
            raise InvalidError(f"{wrong[:_SHOWN]!r} is no address: write it like ops@example.com")
