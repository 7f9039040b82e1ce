"""Tokens of the HTTP API: how they look, and what is kept of them."""

from __future__ import annotations

import hashlib


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def looks_right(token: str) -> bool:
    return token.startswith("sched_")
