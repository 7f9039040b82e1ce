"""Which network addresses lead inside: this machine, its network, its cloud's metadata service.

`ipaddress.is_global` alone is not enough: on Python 3.11 it is True for 64:ff9b::a9fe:a9fe (NAT64 of
169.254.169.254), 2002:7f00:1:: (6to4 of 127.0.0.1) and 224.0.0.1.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Sequence

from scheduler.errors import ConfigError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
REFUSED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # "this network": 0.0.0.0 is this machine
        "100.64.0.0/10",  # carrier-grade NAT, and some clouds' own services
        "192.0.0.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "198.18.0.0/15",
        "240.0.0.0/4",
        "::/96",  # IPv4-compatible: 127.0.0.1 inside
        "64:ff9b:1::/48",  # local NAT64: what is behind it is not known
        "100::/64",
        "168.63.129.16/32",  # Azure's own services, under an address of the internet
        "2001::/23",  # Teredo and its neighbours: IPv4 inside
        "2002::/16",  # 6to4: IPv4 inside
        "3fff::/20",  # documentation, which Python knows since 3.13
        "5f00::/16",
        "fec0::/10",  # site-local
    )
)
# What hands out a machine's credentials. A network or a name in the allow list does not open these, since whoever wrote
# 169.254.0.0/16 or a name that somebody else resolves did not mean them: only the address itself, written out, does.
METADATA = frozenset(
    map(
        ipaddress.ip_address,
        (
            "169.254.169.254",  # AWS, Azure, Google, DigitalOcean, OpenStack, …
            "169.254.170.2",  # AWS: tasks of ECS
            "169.254.170.23",  # AWS: pods of EKS
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",  # Google
            "100.100.100.200",  # Alibaba
            "168.63.129.16",  # Azure
            "192.0.0.192",  # Oracle
        ),
    )
)
RESOLVED = 60.0  # seconds that what a name stands for counts: a connection is tried for 30


def internal(address: Address) -> bool:
    """True unless the address is one that anybody on the internet could reach."""
    address = _inner(address)
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return True
    return any(address.version == network.version and address in network for network in REFUSED)


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one of the two plain translations carries."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


class Allowed:
    """The internal addresses that an operator opened: `10.1.0.0/16`, `127.0.0.1:8080`, `intranet`, `intranet:8080`.

    A name stands for the addresses it resolves to when it is called. Raises ConfigError for an entry that is neither.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._networks: list[tuple[Network, int | None]] = []
        self._names: set[tuple[str, int | None]] = set()
        self._resolved: dict[tuple[Address, int], float] = {}  # until when, on the monotonic clock
        for entry in entries:
            self._add(entry.strip())

    def resolved(self, name: str, port: int, address: Address) -> None:
        """Told by the resolver what a name stands for now."""
        name = name.lower().rstrip(".")
        if not self._names.isdisjoint({(name, port), (name, None)}):
            now = time.monotonic()
            self._resolved = {key: until for key, until in self._resolved.items() if until > now}
            self._resolved[_inner(address), port] = now + RESOLVED

    def permits(self, address: Address, port: int) -> bool:
        address = _inner(address)
        if address not in METADATA and self._resolved.get((address, port), 0.0) > time.monotonic():
            return True
        return any(
            address.version == network.version
            and address in network
            and opened in (None, port)
            and (address not in METADATA or network.num_addresses == 1)
            for network, opened in self._networks
        )

    def _add(self, entry: str) -> None:
        try:
            self._networks.append((ipaddress.ip_network(entry, strict=False), None))
        except ValueError:
            host, colon, port = entry.rpartition(":")
            name, number = (host, port) if colon else (entry, "")
            if not name or "/" in name or (colon and not (number.isdecimal() and 0 < int(number) < 65536)):  # noqa: PLR2004  ports
                message = f"{entry!r} is no address to allow: a CIDR, a host or host:port"
                raise ConfigError(message, hint="SCHEDULER_HTTP_ALLOW") from None
            opened = int(number) if number else None
            try:
                self._networks.append((ipaddress.ip_network(name.strip("[]")), opened))
            except ValueError:
                self._names.add((name.lower().rstrip("."), opened))
