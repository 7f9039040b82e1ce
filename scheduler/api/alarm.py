"""An alarm as a request brings it, and the alarm of the database's side that it becomes."""

from __future__ import annotations

from typing import Annotated

import msgspec

from scheduler.alarms import ADDRESS, HOOK, SECRET, Kind, NewAlarm
from scheduler.api.kinds import CENTURY, LongName, Seconds
from scheduler.model import seconds

Span = Annotated[float, msgspec.Meta(ge=0.001, le=CENTURY, description="In seconds.")]


def _text(pattern: str, description: str) -> msgspec.Meta:
    """Of which `scheduler.alarms` checks the pattern, with a word about it."""
    return msgspec.Meta(max_length=2_000, description=description, extra_json_schema={"pattern": pattern})


Secret = Annotated[str, _text(SECRET, "The name of a secret that the worker has.")]


class _Channel(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, tag_field="channel"):
    pass


class Webhook(_Channel, tag="webhook"):
    """A POST of the notice as JSON. `headers` may name secrets."""

    url: Annotated[str, _text(HOOK, "Begins with http:// or https://, or names a secret.")]
    headers: dict[str, str] = {}


class Slack(_Channel, tag="slack"):
    """An incoming webhook's `text`."""

    url: Secret


class DingTalk(_Channel, tag="dingtalk"):
    """A robot's text message, signed if there is a `secret`."""

    url: Secret
    secret: Secret | None = None


class Email(_Channel, tag="email"):
    """Plain text, by the SMTP server of the worker."""

    to: Annotated[list[Annotated[str, _text(ADDRESS, "Like ops@example.com.")]], msgspec.Meta(min_length=1)]


class AlarmBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A rule without its app and name, which are in the path. Durations are numbers of seconds."""

    kind: Kind
    channels: Annotated[list[Webhook | Slack | DingTalk | Email], msgspec.Meta(min_length=1, max_length=10)]
    job: Annotated[LongName | None, msgspec.Meta(description="Null: all of the app's runs.")] = None
    times: Annotated[int, msgspec.Meta(ge=1, le=1_000, description="So many within the time.")] = 1
    within: Annotated[Span, msgspec.Meta(description="The time that the kind is about.")] = 600.0
    gather: Seconds = 10.0
    pause: Seconds = 300.0
    repeat: Span = 14_400.0


def defined(app: str, name: str, body: AlarmBody) -> NewAlarm:
    """InvalidError when it is none, with what would be right."""
    given = msgspec.structs.asdict(body) | {"channels": msgspec.to_builtins(body.channels)}
    given |= {key: seconds(given[key], key) for key in ("within", "gather", "pause", "repeat")}
    return NewAlarm(app=app, name=name, **given)
