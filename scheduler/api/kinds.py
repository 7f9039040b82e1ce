"""What values may be, for bodies and queries alike: the database's own bounds, said before it is asked."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

DAY = 86_400
CENTURY = 36_500 * DAY
"""Seconds; longer durations are refused."""
SMALLINT, INTEGER, LAST_ID = 2**15 - 1, 2**31 - 1, 2**63 - 1

Name = Annotated[str, Meta(min_length=1, max_length=100)]
LongName = Annotated[str, Meta(min_length=1, max_length=200)]
"""Of a job, a tag, a concurrency key."""
Id = Annotated[int, Meta(ge=1, le=LAST_ID)]
Instant = Annotated[datetime, Meta(tz=True)]
Seconds = Annotated[float, Meta(ge=0, le=CENTURY, description="In seconds.")]
SCHEDULE = Meta(
    min_length=1,
    max_length=500,
    description="Five or six cron fields, `@daily` …, `@every 1h30m` or `@after 30s`; null: on demand.",
    extra_json_schema={"format": "schedule"},
)
ZONE = Meta(description="An IANA name.", extra_json_schema={"format": "timezone"})
Priority = Annotated[int, Meta(ge=-SMALLINT - 1, le=SMALLINT, description="Lower goes first.")]
Attempts = Annotated[int, Meta(ge=1, le=SMALLINT)]
Slots = Annotated[int, Meta(ge=1, le=INTEGER)]
