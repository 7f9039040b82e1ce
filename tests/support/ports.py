"""Ports for servers that are started with a number."""

from __future__ import annotations

import random
import socket
from contextlib import suppress


def free_port() -> int:
    """Of this machine's own address. Below those that the system hands out by itself: one of these may belong to
    anybody's connection by the time that the server takes it.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
