"""JSON documents for PostgreSQL in its binary form.

As text, an array of results is escaped quote by quote.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from psycopg import adapters
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

JSONB = 3802
ARRAY = 3807
_NULL = b"\xff\xff\xff\xff"
_HEAD = struct.Struct(">iB")  # an element's length, and the version of jsonb's binary form, which is its text


class Documents:
    """JSON in UTF-8, or None, as one parameter of the type jsonb[]. At least one."""

    __slots__ = ("texts",)

    def __init__(self, texts: Sequence[bytes | None]) -> None:
        self.texts = texts


class _DocumentsDumper(Dumper):
    format = Format.BINARY
    oid = ARRAY

    def dump(self, obj: Documents) -> Buffer:
        elements = [_NULL if text is None else _HEAD.pack(len(text) + 1, 1) + text for text in obj.texts]
        return struct.pack(">5i", 1, 1, JSONB, len(elements), 1) + b"".join(elements)


adapters.register_dumper(Documents, _DocumentsDumper)
