"""What the service manager that started this process is told: sd_notify(3), datagrams to the socket of NOTIFY_SOCKET.

    READY=1      every service of the process is registered with the database
    WATCHDOG=1   twice in WATCHDOG_USEC, from the event loop, while no loop of the services is stuck
    STOPPING=1   a signal came, or a part ended; what runs may end

A loop that fails is not stuck. A process whose database is away reconnects by itself, and to kill it would not bring
the database back. What the watchdog is for is the process that does nothing any more and does not notice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import MutableMapping, Sequence
from typing import Protocol, Self

log = logging.getLogger(__name__)

LOOK = 0.1  # seconds between two looks whether all services are ready


class Service(Protocol):
    @property
    def is_ready(self) -> bool: ...

    def stuck(self) -> str | None: ...


class Notifier:
    def __init__(self, address: str, watchdog: float | None = None) -> None:
        """`address` is a path, or a name in Linux' abstract space behind an `@`; `watchdog` is in seconds."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog = watchdog
        self._is_stuck = False

    @classmethod
    def from_env(cls, env: MutableMapping[str, str]) -> Self | None:
        """From the variables of systemd, which are taken out, so that no child speaks for this process."""
        address = env.pop("NOTIFY_SOCKET", "")
        period, owner = env.pop("WATCHDOG_USEC", ""), env.pop("WATCHDOG_PID", "")
        if not address.startswith(("/", "@")):
            return None
        is_meant = owner in ("", str(os.getpid()))
        return cls(address, int(period) / 1e6 if is_meant and period.isdigit() and int(period) else None)

    def tell(self, *assignments: str) -> None:
        """Never waits, and never fails: a manager that does not listen is no reason to end."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            log.warning("systemd does not hear %s: %s", assignments[0], error.strerror or error)

    async def run(self, services: Sequence[Service], stopping: asyncio.Event) -> None:
        """Until `stopping` is set."""
        pause = self._watchdog / 2 if self._watchdog else None
        while not all(service.is_ready for service in services):
            self._say_alive(services)
            if await _is_set(stopping, min(LOOK, pause or LOOK)):
                break
        else:
            self.tell("READY=1", "STATUS=at work")
            while True:
                self._say_alive(services)
                if await _is_set(stopping, pause):
                    break
        self.tell("STOPPING=1", "STATUS=stopping; what runs may end")

    def _say_alive(self, services: Sequence[Service]) -> None:
        stuck = next((said for service in services if (said := service.stuck())), "")
        if bool(stuck) != self._is_stuck:  # and not each time: how long it has been grows
            self._is_stuck = bool(stuck)
            if stuck:
                log.error("%s: the watchdog is not fed any more", stuck)
            self.tell(f"STATUS={stuck or 'at work'}")
        if self._watchdog and not stuck:
            self.tell("WATCHDOG=1")


async def _is_set(event: asyncio.Event, seconds: float | None) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
