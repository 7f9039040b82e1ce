"""Tokens of the HTTP API: how one is made, told from a mistyped one, and digested; what each scope allows.

A token is `sched_`, 32 random bytes in base62, and a CRC-32 of these in base62: 55 characters, which a double click
selects and a secret scanner finds by PATTERN. Whoever has the text has the access, so it is shown once and never
stored: the database knows its SHA-256, from which 256 random bits are not to be had back.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from collections.abc import Iterable

SCOPES = ("read", "write", "work", "admin")
PATTERN = r"\bsched_[0-9A-Za-z]{49}\b"
"""What finds tokens in texts, for secret scanners; the last six characters tell a real one."""

SHOWN = 10  # characters of a token that may be seen: `sched_` and 24 of its 256 bits

_PREFIX = "sched_"
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_BYTES = 32
_RANDOM_DIGITS = 43  # 62 ** 43 > 2 ** 256
_CHECK_DIGITS = 6  # 62 ** 6 > 2 ** 32
_SHAPE = re.compile(rf"{_PREFIX}([0-9A-Za-z]{{{_RANDOM_DIGITS}}})([0-9A-Za-z]{{{_CHECK_DIGITS}}})")
_IMPLIED = {"write": {"read"}, "admin": {"read", "write", "work"}}


def new_token() -> str:
    body = _base62(int.from_bytes(secrets.token_bytes(_RANDOM_BYTES)), _RANDOM_DIGITS)
    return f"{_PREFIX}{body}{_check(body)}"


def looks_right(token: str) -> bool:
    """Whether prefix, length and CRC are those of a token. One that was mistyped costs no query."""
    parts = _SHAPE.fullmatch(token)
    return parts is not None and parts[2] == _check(parts[1])


def digest(token: str) -> bytes:
    """What the database keeps of a token: 32 bytes."""
    return hashlib.sha256(token.encode()).digest()


def implied(scopes: Iterable[str]) -> frozenset[str]:
    """The scopes with those that they bring along: write also reads, and admin may do everything.

    read: look at everything but tokens and the audit. write: definitions, runs, pauses, limits. work: the worker
    protocol. admin: tokens and the audit besides.
    """
    given = frozenset(scopes)
    return given.union(*(_IMPLIED.get(scope, set()) for scope in given))


def _check(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_DIGITS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
