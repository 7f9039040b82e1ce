"""Bodies that come compressed: unpacked in small pieces, and refused when they grow beyond all measure."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

from scheduler.api.problem import Problem

PIECE = 256 * 1024
"""Bytes that are unpacked at a time."""
MOST_GROWTH = 200
"""Times that a body may grow which is larger than FREE. A bomb grows a thousandfold, different runs ten- to fiftyfold,
and runs that are all alike nearly as a bomb does, but of those FREE holds millions."""
FREE = 256 * 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS


async def unpacked(chunks: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """The body as it was before `encoding`, its Content-Encoding. Problem 400, 413 or 415."""
    if encoding in {"", "identity"}:
        async for chunk in chunks:
            yield chunk
        return
    if encoding != "gzip":
        raise Problem(415, f"the Content-Encoding {encoding[:100]} is not known here: gzip is")
    stream = zlib.decompressobj(_GZIP)
    came = made = 0
    async for chunk in chunks:
        came += len(chunk)
        packed = chunk
        while packed:
            if stream.eof:
                stream = zlib.decompressobj(_GZIP)  # several, one behind the other, as `cat` makes them
            try:
                piece = stream.decompress(packed, PIECE)
            except zlib.error as error:
                raise Problem(400, f"the body is not gzip: {error}") from None
            packed = stream.unused_data if stream.eof else stream.unconsumed_tail
            made += len(piece)
            if made > FREE and made > MOST_GROWTH * came:
                raise Problem(413, f"the body grows more than {MOST_GROWTH}-fold when it is unpacked")
            yield piece
    if not stream.eof:
        raise Problem(400, "the body ends in the middle of its gzip")
