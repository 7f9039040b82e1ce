"""Arrays of timestamptz in PostgreSQL's binary form, from seconds since the epoch.

As text, or as float8[] that the server converts, the two instants of a run cost 3 us of the client's time and 0.2 us of
the server's; in this form 0.5 us in all.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from psycopg import adapters
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

EPOCH = 946_684_800  # 2000-01-01 UTC, where PostgreSQL's count of microseconds begins
TIMESTAMPTZ = 1184
ARRAY = 1185
MICROSECONDS = 1_000_000


class Instants:
    """Seconds since the epoch of 1970, or None, as one parameter of the type timestamptz[]."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: Sequence[float | None]) -> None:
        self.seconds = seconds


class _InstantsDumper(Dumper):
    format = Format.BINARY
    oid = ARRAY

    def dump(self, obj: Instants) -> Buffer:
        if None in obj.seconds:
            return _with_nulls(obj.seconds)
        size = len(obj.seconds)
        fields = [8] * (2 * size)  # each element is its length in bytes and its microseconds
        fields[1::2] = [round((at - EPOCH) * MICROSECONDS) for at in obj.seconds]  # type: ignore[operator]
        return struct.pack(f">5i{'iq' * size}", 1, 0, TIMESTAMPTZ, size, 1, *fields)


def _with_nulls(seconds: Sequence[float | None]) -> bytes:
    elements = [
        b"\xff\xff\xff\xff" if at is None else struct.pack(">iq", 8, round((at - EPOCH) * MICROSECONDS))
        for at in seconds
    ]
    return struct.pack(">5i", 1, 1, TIMESTAMPTZ, len(seconds), 1) + b"".join(elements)


adapters.register_dumper(Instants, _InstantsDumper)
