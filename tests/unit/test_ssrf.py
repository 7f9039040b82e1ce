"""What a URL may be made to mean: the corpus of `tests/data/internal-urls.txt`, asked for directly and by redirects.

Nothing here leaves the machine. Names are resolved by a table; every socket's `connect` is watched, and one to anything
but the loopback is written down and not made.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from tests.support.calls import call
from worker.addresses import METADATA, Allowed, internal
from worker.executors import ExecutionFailed, Settings
from worker.executors.http import HttpExecutor

LINES = (Path(__file__).parents[1] / "data" / "internal-urls.txt").read_text(encoding="utf-8").splitlines()
CORPUS = [line for line in LINES if line and not line.startswith("# ")]
PUBLIC = "93.184.216.34"
NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "localhost.localdomain": ["127.0.0.1"],
    "127.0.0.1.inside.example": ["127.0.0.1"],
    "inside.example": ["10.0.0.7"],
    "six.inside.example": ["fd00::7"],
    "cname.inside.example": ["127.0.0.1", "10.0.0.7"],
    "metadata.inside.example": ["169.254.169.254"],
    "good.example": [PUBLIC],
}
Answers = dict[str, Callable[[], list[str]]]


class Net:
    """What was resolved and what would have been connected to."""

    def __init__(self) -> None:
        self.connects: list[tuple[str, int]] = []
        self.asked: list[str] = []
        self.names: Answers = {name: lambda found=found: found for name, found in NAMES.items()}  # type: ignore[misc]

    def resolve(self, host: Any, port: Any, *about: int) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.append(name)
        known = self.names.get(name.lower().rstrip("."))
        hosts = [name] if known is None else known()
        found = []
        for one in hosts:  # numbers in all the forms that the C library reads, and never a question to anybody
            family, kind, protocol = about[:3]
            found += _getaddrinfo(one, port, family, kind, protocol, socket.AI_NUMERICHOST)
        return found

    def connect(self, sock: socket.socket, address: Any) -> None:
        host, port = address[:2]
        self.connects.append((host, port))
        if not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
            raise ConnectionRefusedError(111, "not made by a test")
        _connect(sock, address)

    def inside(self) -> list[tuple[str, int]]:
        return [one for one in self.connects if internal(ipaddress.ip_address(one[0].partition("%")[0]))]


_getaddrinfo = socket.getaddrinfo
_connect = socket.socket.connect


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Net:
    net = Net()

    def connect(sock: socket.socket, address: Any) -> None:  # a function, and so a method of the socket
        net.connect(sock, address)

    monkeypatch.setattr(socket, "getaddrinfo", net.resolve)
    monkeypatch.setattr(socket.socket, "connect", connect)
    return net


class Listener:
    """On the loopback, counting who comes."""

    port = 0
    accepts = 0


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    there = Listener()

    async def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there.accepts += 1
        writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    there.port = server.sockets[0].getsockname()[1]
    try:
        yield there
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def redirecting(status: int) -> AsyncIterator[tuple[int, dict[str, str], list[web.Request]]]:
    """A site's port, where its next answer leads (under "to"), and what it was asked."""
    target: dict[str, str] = {}
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request)
        if request.path == "/end":
            return web.Response(text="here")
        return web.Response(status=status, headers={"Location": target["to"]})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1], target, asked
    finally:
        await runner.cleanup()


@asynccontextmanager
async def http(*allow: str) -> AsyncIterator[HttpExecutor]:
    executor = HttpExecutor(Settings(http_allow=allow))
    try:
        yield executor
    finally:
        await executor.close()


async def refused(executor: HttpExecutor, url: str, **spec: Any) -> str:
    """The one line with which the run fails."""
    with pytest.raises(ExecutionFailed) as caught:
        await executor.execute(call({"url": url, **spec}))
    text = str(caught.value)
    assert len(text.splitlines()) == 1, text
    assert 0 < len(text) < 1000
    return text


def test_the_corpus_is_as_large_as_it_says() -> None:
    assert len(CORPUS) >= 130
    assert len(set(CORPUS)) == len(CORPUS)


async def test_nothing_of_the_corpus_reaches_an_address_inside(net: Net) -> None:
    async with listening() as there, http() as executor:
        for line in CORPUS:
            url = line.replace("{port}", str(there.port))
            await refused(executor, url)
            assert net.inside() == [], url
        assert there.accepts == 0
    # Some of the corpus means a site outside, which it may ask for. Nothing of that kind was made.
    assert {host for host, _ in net.connects} <= {PUBLIC}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_to_the_corpus_reaches_an_address_inside(net: Net, status: int) -> None:
    async with listening() as there, redirecting(status) as (port, target, asked):
        async with http(f"127.0.0.1:{port}") as executor:
            for line in CORPUS:
                target["to"] = line.replace("{port}", str(there.port))
                if not urlsplit(target["to"].replace("\\", "/")).scheme:
                    continue  # a path below the site that redirects
                net.connects.clear()
                await refused(executor, f"http://127.0.0.1:{port}/", json={})
                assert [one for one in net.inside() if one != ("127.0.0.1", port)] == [], line
        assert there.accepts == 0
        assert len(asked) > 130


async def test_a_refusal_says_which_address_and_which_setting(net: Net) -> None:
    async with http() as executor:
        assert await refused(executor, "http://inside.example:8080/x?token=1") == (
            "GET http://inside.example:8080/x: "
            "10.0.0.7 port 8080 is an internal address, refused unless SCHEDULER_HTTP_ALLOW has it"
        )


@pytest.mark.parametrize("turn", [1, 2, 5])
async def test_a_name_that_is_public_first_and_inside_later_is_refused_when_it_is(net: Net, turn: int) -> None:
    """Rebinding: the answer counts that the socket is made from, each time anew."""
    asked = 0

    def answer() -> list[str]:
        nonlocal asked
        asked += 1
        return [PUBLIC] if asked <= turn else ["127.0.0.1"]

    net.names["rebound.example"] = answer
    async with listening() as there, http() as executor:
        for _ in range(turn):
            await refused(executor, f"http://rebound.example:{there.port}/")
        assert net.connects == [(PUBLIC, there.port)] * turn
        assert "internal address" in await refused(executor, f"http://rebound.example:{there.port}/")
        assert (there.accepts, net.inside()) == (0, [])


@pytest.mark.parametrize("answers", [[PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], ["::1", PUBLIC, "10.0.0.1"]])
async def test_of_several_answers_only_those_outside_are_tried(net: Net, answers: list[str]) -> None:
    net.names["mixed.example"] = lambda: answers
    async with listening() as there, http() as executor:
        await refused(executor, f"http://mixed.example:{there.port}/")
        assert (there.accepts, set(net.connects)) == (0, {(PUBLIC, there.port)})


async def test_a_url_that_cannot_be_read_keeps_its_password_and_its_query(net: Net) -> None:
    async with redirecting(302) as (port, target, _), http("127.0.0.1") as executor:
        for bad in (r"http://u:hush@good.example\@x/?t=hush", "http://u:hush@[::1/?t=hush", "ftp://u:hush@x/?t=hush"):
            target["to"] = bad
            assert "hush" not in await refused(executor, bad)
            assert "hush" not in await refused(executor, f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
async def test_a_proxy_of_the_environment_is_no_way_around(
    net: Net, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    async with listening() as proxy, http() as executor:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
        await refused(executor, "http://inside.example/")
        await refused(executor, "https://good.example/")
        assert (proxy.accepts, net.connects) == (0, [(PUBLIC, 443)])


async def test_headers_of_the_spec_do_not_follow_to_another_origin(net: Net) -> None:
    given = {
        "Authorization": "Bearer x", "Cookie": "a=b", "Proxy-Authorization": "Basic x", "X-Api-Key": "k",
        "x-amz-security-token": "t", "Accept": "text/plain",
    }  # fmt: skip
    async with (
        redirecting(302) as (first, to, asked),
        redirecting(302) as (second, _, asked_second),
        http("127.0.0.1") as executor,
    ):
        to["to"] = f"http://127.0.0.1:{first}/end"  # the same origin: they do
        await executor.execute(call({"url": f"http://127.0.0.1:{first}/", "headers": given}))
        to["to"] = f"http://127.0.0.1:{second}/end"
        await executor.execute(call({"url": f"http://user:pw@127.0.0.1:{first}/", "headers": {"X-Api-Key": "k"}}))
        await executor.execute(call({"url": f"http://127.0.0.1:{first}/", "headers": given}))
    assert asked[1].headers["X-Api-Key"] == "k"
    assert asked[2].headers["Authorization"].startswith("Basic ")
    for request in asked_second:
        sent = {name.lower() for name in request.headers}
        assert not sent & ({name.lower() for name in given} - {"accept"})
        assert "scheduler-run-id" in sent
    assert asked_second[1].headers["Accept"] == "text/plain"


@pytest.mark.parametrize(
    ("allow", "url", "connects"),
    [
        ("10.0.0.7", "http://inside.example/", ["10.0.0.7"]),
        ("10.0.0.0/8", "http://inside.example/", ["10.0.0.7"]),
        ("10.0.0.0/8", "http://[::ffff:10.0.0.7]/", ["::ffff:10.0.0.7"]),
        ("10.0.0.0/24:80", "http://inside.example/", None),
        ("10.0.0.7:80", "http://inside.example/", ["10.0.0.7"]),
        ("10.0.0.7:80", "http://inside.example:81/", []),
        ("10.0.0.8", "http://inside.example/", []),
        ("fd00::/8", "http://six.inside.example/", ["fd00::7"]),
        ("[fd00::7]:80", "http://six.inside.example/", ["fd00::7"]),
        ("[fd00::7]:81", "http://six.inside.example/", []),
        ("inside.example", "http://inside.example/", ["10.0.0.7"]),
        ("Inside.Example.", "http://INSIDE.example./", ["10.0.0.7"]),
        ("inside.example:80", "http://inside.example:81/", []),
        ("inside.example", "http://six.inside.example/", []),
        ("example", "http://inside.example/", []),
        ("inside.example", "http://10.0.0.7/", []),
        ("169.254.0.0/16", "http://169.254.169.254/", []),
        ("0.0.0.0/0", "http://100.100.100.200/", []),
        ("metadata.inside.example", "http://metadata.inside.example/", []),
        ("::/0", "http://[fd00:ec2::254]/", []),
        ("0.0.0.0/0 ::/0", "http://[64:ff9b::a9fe:a9fe]/", []),
        ("169.254.169.254", "http://metadata.inside.example/", ["169.254.169.254"]),
        ("169.254.169.254:80", "http://[::ffff:a9fe:a9fe]/", ["::ffff:169.254.169.254"]),
    ],
)  # fmt: skip
async def test_the_allow_list_opens_what_it_says(net: Net, allow: str, url: str, connects: list[str] | None) -> None:
    if connects is None:
        with pytest.raises(Exception, match="no address to allow"):
            Allowed(allow.split())
        return
    async with http(*allow.split()) as executor:
        await refused(executor, url)  # by the test, if not by the executor
    assert [ipaddress.ip_address(host) for host, _ in net.connects] == [ipaddress.ip_address(one) for one in connects]


async def test_a_name_opens_its_address_for_a_minute_only(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = Allowed(["inside.example"])
    address = ipaddress.ip_address("10.0.0.7")
    now = 1000.0
    monkeypatch.setattr("worker.addresses.time.monotonic", lambda: now)
    allowed.resolved("inside.example", 80, address)
    assert allowed.permits(address, 80)
    assert not allowed.permits(address, 81)
    now += 61
    assert not allowed.permits(address, 80)
    for last in range(200):
        now += 1
        allowed.resolved("inside.example", 80, ipaddress.ip_address(f"10.0.1.{last}"))
    assert len(allowed._resolved) <= 61


def test_what_hands_out_credentials_counts_as_inside() -> None:
    assert all(map(internal, METADATA))
