"""What only this machine reaches, and requests that are meant for it."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def asks_loopback(header: str) -> bool:
    """Whether a request with this Host header means loopback.

    Without tokens the name is all that tells us from others: a page whose own name was made to lead to 127.0.0.1 could
    ask for anything here, and its browser would let it read the answers.
    """
    return is_loopback(header[1:].partition("]")[0] if header.startswith("[") else header.partition(":")[0])
