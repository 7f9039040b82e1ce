"""Lists a page at a time. A page ends with the address of the next one, which begins behind this one's last row by its
key, so that rows that come and go meanwhile move nothing.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec

from scheduler.api.kinds import LAST_ID
from scheduler.api.operation import Ask

Limit = Annotated[int, msgspec.Meta(ge=1, le=1_000, description="Rows at most.")]
BeforeId = Annotated[int, msgspec.Meta(ge=0, le=LAST_ID, description="Only those with a smaller id.")]
Next = Annotated[str | None, msgspec.Meta(description="The address of the next page; null on the last one.")]
MORE = 1
"""Rows to be asked for beyond the page: whether there are any says whether there is a next page."""


def page(ask: Ask, rows: list[Any], **key: str) -> tuple[list[Any], str | None]:
    """The page's rows of those that were asked for, one more than `limit`, and the address of the next page.

    `key`: the parameters that say where a page begins, and the columns of the last row that they are taken from.
    """
    limit = ask.query.limit
    if len(rows) <= limit:
        return rows, None
    rows = rows[:limit]
    kept = [(name, text) for name, text in ask.request.query_params.multi_items() if name not in key]
    begin = [(name, rows[-1][column]) for name, column in key.items()]
    path = ask.request.scope["raw_path"].decode("ascii").rstrip("/")  # percent-encoded, as it was sent
    return rows, f"{path}?{urlencode(kept + begin)}"
