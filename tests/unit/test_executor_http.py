"""HTTP requests against servers on the loopback, which is internal: what is opened, and what stays shut."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import ResolveResult

from scheduler.errors import ConfigError
from tests.support.calls import Log, call
from worker.addresses import Allowed, internal
from worker.executors import ExecutionFailed, Settings
from worker.executors.http import BODY_LIMIT, HttpExecutor

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """A server on the loopback that answers with what it was asked, and counts its connections' requests."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[web.Request] = []
        self.handlers: dict[str, Handler] = {}

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.text()
        self.requests.append(request)
        if handler := self.handlers.get(request.path):
            return await handler(request)
        return web.json_response({"method": request.method, "headers": dict(request.headers), "body": body})


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    made = Site()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    place = web.TCPSite(runner, "127.0.0.1", 0)
    await place.start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()


@asynccontextmanager
async def http(*allow: str) -> AsyncIterator[HttpExecutor]:
    executor = HttpExecutor(Settings(http_allow=allow))
    try:
        yield executor
    finally:
        await executor.close()


async def failure(executor: HttpExecutor, spec: dict[str, Any]) -> ExecutionFailed:
    with pytest.raises(ExecutionFailed) as caught:
        await executor.execute(call(spec))
    return caught.value


async def test_a_request_carries_the_run_and_a_trace() -> None:
    async with site() as there, http("127.0.0.0/8") as executor:
        at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        spec = {"url": there.url("/close"), "headers": {"X-Mine": "1", "scheduler-fence": "999"}}
        result = await executor.execute(call(spec, scheduled=at.timestamp()))
    assert result["status"] == 200
    assert result["headers"]["Content-Type"].startswith("application/json")
    seen = json.loads(result["body"])
    headers = {name.lower(): value for name, value in seen["headers"].items()}
    assert seen["method"] == "GET"
    assert headers["x-mine"] == "1"
    assert (headers["scheduler-run-id"], headers["scheduler-attempt"], headers["scheduler-fence"]) == ("7", "2", "42")
    assert headers["scheduler-scheduled-at"] == "2026-01-02T03:04:05Z"
    version, trace, parent, flags = headers["traceparent"].split("-")
    assert (version, len(trace), len(parent), flags) == ("00", 32, 16, "01")


async def test_a_trace_that_the_spec_continues_is_kept() -> None:
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    async with site() as there, http("127.0.0.1") as executor:
        await executor.execute(call({"url": there.url(), "headers": {"Traceparent": parent}}))
    assert there.requests[0].headers.getall("traceparent") == [parent]


async def test_a_body_makes_it_a_post() -> None:
    async with site() as there, http("127.0.0.1") as executor:
        text = json.loads((await executor.execute(call({"url": there.url(), "body": "h\u00e9"})))["body"])
        data = json.loads((await executor.execute(call({"url": there.url(), "json": {"a": None}})))["body"])
        put = json.loads((await executor.execute(call({"url": there.url(), "method": "put", "body": ""})))["body"])
    assert (text["method"], text["body"]) == ("POST", "h\u00e9")
    assert (data["method"], json.loads(data["body"]), data["headers"]["Content-Type"]) == (
        "POST",
        {"a": None},
        "application/json",
    )
    assert put["method"] == "PUT"


@pytest.mark.parametrize(
    ("status", "expect", "succeeds"),
    [
        (204, None, True),
        (404, None, False),
        (503, None, False),
        (404, 404, True),
        (200, 404, False),
        (201, [200, 201], True),
        (302, [302], True),
    ],
)
async def test_the_status_decides(status: int, expect: Any, succeeds: bool) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 302 else None)

    async with site() as there, http("127.0.0.1") as executor:
        there.handlers["/"] = handler
        spec = {"url": there.url("/?secret=1"), "expect_status": expect}
        if succeeds:
            assert (await executor.execute(call(spec)))["status"] == status
        else:
            error = await failure(executor, spec)
            assert error.result["status"] == status
            assert str(error).startswith(f"GET {there.url()}: answered {status}")


async def test_a_long_answer_is_cut_and_says_so() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:  # until the executor has had enough
            await answer.write(b"x" * 10_000)

    async with site() as there, http("127.0.0.1") as executor:
        there.handlers["/"] = handler
        result = await asyncio.wait_for(executor.execute(call({"url": there.url()})), 20)
    assert result["truncated"] is True
    assert result["body"] == "x" * BODY_LIMIT


async def test_an_answer_in_an_odd_encoding_is_read_as_well_as_can_be() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=b"\xe9\xff", headers={"Content-Type": f"text/plain; charset={request.query['as']}"})

    async with site() as there, http("127.0.0.1") as executor:
        there.handlers["/"] = handler
        latin = await executor.execute(call({"url": there.url("/?as=latin-1")}))
        unknown = await executor.execute(call({"url": there.url("/?as=nonsense")}))
    assert (latin["body"], unknown["body"]) == ("\u00e9\u00ff", "\ufffd\ufffd")


async def test_internal_addresses_are_refused_however_they_are_written() -> None:
    async with site() as there, http() as executor:
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "0", "[::1]", "[::ffff:127.0.0.1]"):
            error = await failure(executor, {"url": there.url(host=host)})
            assert "internal address" in str(error) or "not a canonical IPv4 address" in str(error)
        assert there.requests == []
        error = await failure(executor, {"url": "http://169.254.169.254/latest/meta-data"})
        assert "169.254.169.254 port 80 is an internal address, refused unless SCHEDULER_HTTP_ALLOW" in str(error)


async def test_the_environment_opens_what_the_settings_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEDULER_HTTP_ALLOW", "10.0.0.0/8, localhost")
    executor = HttpExecutor(Settings())
    try:
        async with site() as there:
            assert (await executor.execute(call({"url": there.url(host="localhost")})))["status"] == 200
            assert "internal address" in str(await failure(executor, {"url": "http://169.254.169.254"}))
    finally:
        await executor.close()


async def test_a_redirect_to_an_internal_address_is_refused() -> None:
    async with site() as open_one, site() as shut_one, http("127.0.0.1") as executor:
        executor._allowed = Allowed([f"127.0.0.1:{open_one.port}"])
        open_one.handlers["/"] = redirect(shut_one.url())
        error = await failure(executor, {"url": open_one.url()})
    assert "internal address" in str(error)
    assert (len(open_one.requests), len(shut_one.requests)) == (1, 0)


async def test_a_name_that_changes_its_mind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the name first stands for a public address, and for the loopback when the socket is made."""

    async def resolve(_: Any, host: str, port: int = 0, family: Any = None) -> list[ResolveResult]:
        found: Any = {"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}
        return [found]

    monkeypatch.setattr("aiohttp.ThreadedResolver.resolve", resolve)
    async with site() as there, http("intranet.example") as executor:
        error = await failure(executor, {"url": there.url(host="rebound.example")})
        assert "internal address" in str(error)
        assert there.requests == []
        assert (await executor.execute(call({"url": there.url(host="intranet.example")})))["status"] == 200


async def test_credentials_do_not_follow_to_another_origin() -> None:
    async with site() as first, site() as second, http("127.0.0.1") as executor:
        first.handlers["/"] = redirect(second.url("/two"))
        secrets = {"Authorization": "Bearer x", "Cookie": "a=b"}
        await executor.execute(call({"url": first.url(), "headers": secrets}))
    assert first.requests[0].headers["Authorization"] == "Bearer x"
    assert not {"Authorization", "Cookie"} & set(second.requests[0].headers)


async def test_redirects_are_logged_without_what_may_be_secret() -> None:
    log = Log()
    async with site() as there, http("127.0.0.1") as executor:
        there.handlers["/"] = redirect(there.url("/two?token=hush"))
        await executor.execute(call({"url": there.url("/?key=hush")}, write=log))
        await executor.execute(call({"url": there.url("/three")}, write=log))
        assert log == [("scheduler", f"302 from {there.url('/')}, on to {there.url('/two')}")]


async def test_five_redirects_are_followed_and_no_sixth() -> None:
    async with site() as there, http("127.0.0.1") as executor:
        for step in range(6):
            there.handlers[f"/{step}"] = redirect(there.url(f"/{step + 1}"))
        assert (await executor.execute(call({"url": there.url("/1")})))["status"] == 200
        assert "more than 5 redirects" in str(await failure(executor, {"url": there.url("/0")}))


async def test_one_runs_cookies_are_not_sent_by_another() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(headers={"Set-Cookie": "session=1"})

    async with site() as there, http("127.0.0.1") as executor:
        there.handlers["/"] = handler
        for _ in range(2):
            await executor.execute(call({"url": there.url()}))
    assert "Cookie" not in there.requests[1].headers


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with site() as there, http("127.0.0.1") as executor:
        assert (await executor.execute(call({"url": there.url()})))["status"] == 200


async def test_nobody_there_is_a_clear_failure_without_secrets() -> None:
    async with site() as there, http("127.0.0.1") as executor:
        gone = there.url("/x?token=hush").replace("http://", "http://user:hush@")
        await executor.execute(call({"url": gone}))
        port = there.port
    async with http("127.0.0.1") as executor:
        error = await failure(executor, {"url": gone})
    assert str(error).startswith(f"GET http://127.0.0.1:{port}/x: Cannot connect to host")
    assert "hush" not in str(error)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"url": 5},
        {"url": "file:///etc/passwd"},
        {"url": "http://"},
        {"url": "http://a", "body": 5},
        {"url": "http://a", "body": "x", "json": 1},
        {"url": "http://a", "method": "GET / HTTP/1.1\r\nX: y"},
        {"url": "http://a", "headers": []},
        {"url": "http://a", "headers": {"A b": "x"}},
        {"url": "http://a", "headers": {"A": 1}},
        {"url": "http://127.0.0.1:1", "headers": {"A": "x\r\nB: y"}},
        {"url": "http://a", "expect_status": "200"},
        {"url": "http://a", "expect_status": [99]},
    ],
)
async def test_a_bad_spec_is_a_clear_failure(spec: dict[str, Any]) -> None:
    async with http("127.0.0.1") as executor:
        error = await failure(executor, spec)
    assert "\n" not in str(error)
    assert "bad" in str(error) or "InvalidUrl" in str(error)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.255", "169.254.169.254",
        "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1",
        "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::",
        "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "5f00::1",
    ],
)  # fmt: skip
def test_an_address_inside_is_known_as_one(address: str) -> None:
    assert internal(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"]
)
def test_an_address_outside_is_known_as_one(address: str) -> None:
    assert not internal(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("entry", "address", "port", "permitted"),
    [
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", 80, True),
        ("127.0.0.1:8080", "127.0.0.1", 8080, True),
        ("127.0.0.1:8080", "127.0.0.1", 8081, False),
        ("[::1]:8080", "::1", 8080, True),
        ("::1", "::1", 1, True),
        ("fd00::/8", "127.0.0.1", 1, False),
    ],
)
def test_what_is_allowed_is_an_address_and_perhaps_a_port(entry: str, address: str, port: int, permitted: bool) -> None:
    assert Allowed([entry]).permits(ipaddress.ip_address(address), port) is permitted


@pytest.mark.parametrize("entry", ["", "10.0.0.0/99", "host:0", "host:http", ":80"])
def test_an_entry_that_allows_nothing_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match="no address to allow"):
        Allowed([entry])


def redirect(to: str) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": to})

    return handler
