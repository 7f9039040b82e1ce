"""The version of a definition, for whoever edits what others edit too: `ETag`, `If-Match`, `If-None-Match`.

It is a hash of what somebody defined. What moves by itself (the next instant, the last run, how an alarm stands) is not
in it, or no edit would ever match; nor is `updated_at`, so that writing the same again changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from scheduler.api.problem import Problem

_MOVES = {
    "updated_at", "app_paused_at", "error", "anchor_at", "undecided_at", "planned_at", "last_run", "last_outcome",
    "last_finished_at", "last_result", "last_error", "pulse", "now", "state", "next_at",
    "since_at", "told_at", "last_told_at", "hits", "latest",
}  # fmt: skip


def of_row(row: Mapping[str, Any]) -> str:
    """Of a row of `watch.job`, or of `store.alarm.alarm`."""
    defined = {name: value for name, value in row.items() if name not in _MOVES}
    text = json.dumps(defined, sort_keys=True, default=str)
    return f'"{hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]}"'


def is_known(headers: Mapping[str, str], etag: str) -> bool:
    """Whether who asks has this version already, and 304 says it all."""
    return _names(headers.get("if-none-match"), etag, weak=True)


def ensure(headers: Mapping[str, str], etag: str | None) -> None:
    """Problem 412 unless what is there is what the caller expects; `etag` None: nothing is there."""
    wanted, unwanted = headers.get("if-match"), headers.get("if-none-match")
    if wanted is not None and (etag is None or not _names(wanted, etag, weak=False)):
        raise Problem(412, "it is not there" if etag is None else f"it was changed meanwhile: its ETag is {etag}")
    if etag is not None and _names(unwanted, etag, weak=True):
        raise Problem(412, f"it is there already: its ETag is {etag}")


def _names(header: str | None, etag: str, *, weak: bool) -> bool:
    if header is None:
        return False
    given = [one.strip() for one in header.split(",")]
    if weak:
        given = [one.removeprefix("W/") for one in given]
    return "*" in given or etag in given
