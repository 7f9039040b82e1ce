"""HTTP requests: `{"url", "method", "headers", "body" or "json", "expect_status"}`.

The method is GET, or POST when there is a body. The result is `{status, headers, body}`; any 2xx succeeds, or what
`expect_status` (a number or several) says. Up to five redirects are followed; to another origin only without the spec's
headers, any of which may be a credential.

Internal addresses are refused where the socket is made, after names were resolved and for every redirect anew: a
check of the URL, or of an earlier answer of the resolver, is one that a second answer gets around.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Any
from urllib.parse import urlsplit

from scheduler.errors import MissingExtraError
from worker.addresses import Allowed, internal
from worker.context import Call
from worker.executors import ExecutionFailed, Settings
from worker.headers import told
from worker.outcome import shorten

try:
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult
    from yarl import URL
except ImportError:
    raise MissingExtraError("the http executor", "http") from None

BODY_LIMIT = 64 * 1024  # bytes of the answer that are kept
HEADER_LIMIT = 4096  # bytes of one header of the answer
REDIRECTS = 5
CONNECT_TIMEOUT = 30.0  # seconds
FOLLOWS = frozenset({"accept", "accept-language", "content-type", "user-agent"})  # headers that are no credential
SHOWN = 200  # bytes of a value in an error text
NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, as RFC 9110 calls it
Request = dict[str, Any]


class HttpExecutor:
    def __init__(self, settings: Settings) -> None:
        self._allowed = Allowed(settings.http_allow)
        self._session: aiohttp.ClientSession | None = None

    async def execute(self, call: Call) -> dict[str, Any]:
        """`{status, headers, body}`, with `truncated` when the body was cut; ExecutionFailed on another status."""
        expected = _expected(call.spec)
        request = _request(call)
        timeout = aiohttp.ClientTimeout(total=call.timeout, sock_connect=CONNECT_TIMEOUT)
        follow = not any(300 <= status < 400 for status in expected)  # noqa: PLR2004  redirects
        shown = f"{request['method']} {_shown(request['url'])}"
        try:
            async with self._opened().request(
                **request,
                timeout=timeout,
                allow_redirects=follow,
                max_redirects=REDIRECTS + 1,
                trace_request_ctx=call,
            ) as answer:
                result = await _result(answer)
        except aiohttp.ClientError as error:
            raise ExecutionFailed(f"{shown}: {_reason(error)}") from error
        except TimeoutError as error:
            raise ExecutionFailed(f"{shown}: no answer in time") from error
        except ValueError as error:  # a URL or header that only the client finds fault with
            raise ExecutionFailed(f"{shown}: bad request: {shorten(str(error), SHOWN)}", final=True) from error
        if result["status"] in expected or (not expected and 200 <= result["status"] < 300):  # noqa: PLR2004  success
            return result
        raise ExecutionFailed(f"{shown}: answered {result['status']} {answer.reason or ''}".rstrip(), result)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,  # the worker's slots are the limit
                resolver=_Resolver(self._allowed),
                use_dns_cache=False,
                socket_factory=self._socket,
            )
            tracing = aiohttp.TraceConfig()
            tracing.on_request_redirect.append(_redirected)
            # No cookies: what one run was given must not be sent by another. No proxies and no .netrc from outside.
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, trace_configs=[tracing]
            )
        return self._session

    def _socket(self, found: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, target = found
        address = ipaddress.ip_address(target[0].partition("%")[0])
        if internal(address) and not self._allowed.permits(address, target[1]):
            where = f"{address} port {target[1]}"
            raise PermissionError(f"{where} is an internal address, refused unless SCHEDULER_HTTP_ALLOW has it")
        return socket.socket(family, kind, protocol)


async def _redirected(_: aiohttp.ClientSession, context: Any, about: aiohttp.TraceRequestRedirectParams) -> None:
    """Take the spec's headers off a request that is sent on to another origin: of its own aiohttp takes only three."""
    call: Call = context.trace_request_ctx
    target = about.response.headers.get("Location") or about.response.headers.get("URI") or ""
    try:
        following = about.url.join(URL(target))
        is_same = following.origin() == about.url.origin()
        call.log("scheduler", f"{about.response.status} from {_shown(str(about.url))}, on to {_shown(str(following))}")
    except ValueError:  # aiohttp is about to refuse it
        is_same = False
    if not is_same:
        for name in call.spec.get("headers") or {}:
            if name.lower() not in FOLLOWS:
                about.headers.popall(name, None)


class _Resolver(AbstractResolver):
    """The system's resolver, which tells the allow list what its names stand for."""

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed
        self._system = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._system.resolve(host, port, family)
        for each in found:
            self._allowed.resolved(host, port, ipaddress.ip_address(each["host"].partition("%")[0]))
        return found

    async def close(self) -> None:
        await self._system.close()


def _request(call: Call) -> Request:
    spec = call.spec
    url, given = spec.get("url"), spec.get("headers")
    if not isinstance(url, str) or not url.lower().startswith(("http://", "https://")):
        raise _bad('"url" must begin with http:// or https://', _shown(url) if isinstance(url, str) else url)
    if "body" in spec and "json" in spec:
        raise ExecutionFailed('bad spec: "body" or "json", not both', final=True)
    if not isinstance(spec.get("body", ""), str):
        kind = type(spec["body"]).__name__  # what it holds may be a secret
        raise ExecutionFailed(f'bad spec: "body" must be a string ("json" takes anything), not {kind}', final=True)
    method = spec.get("method") or ("POST" if "body" in spec or "json" in spec else "GET")
    if not isinstance(method, str) or not method.isalpha() or not method.isascii():
        raise _bad('"method" must be the name of an HTTP method', method)
    request: Request = {"method": method.upper(), "url": url, "headers": _headers(call, {} if given is None else given)}
    if "body" in spec:
        request["data"] = spec["body"].encode()
    elif "json" in spec:
        request["json"] = spec["json"]
    return request


def _headers(call: Call, given: Any) -> dict[str, str]:
    if not isinstance(given, dict):
        kind = type(given).__name__
        raise ExecutionFailed(f'bad spec: "headers" must be an object of strings, not {kind}', final=True)
    for name, value in given.items():  # a value may be a secret, and is not shown
        if not NAME.fullmatch(name):
            raise _bad('"headers" must have names of letters, digits and dashes', name)
        if not isinstance(value, str) or not value.isprintable():
            raise ExecutionFailed(f"bad spec: header {name!r} must be a string without line breaks", final=True)
    return told(call, given)


def _expected(spec: dict[str, Any]) -> list[int]:
    expected = spec.get("expect_status")
    several = expected if isinstance(expected, list) else [] if expected is None else [expected]
    if not all(type(status) is int and 100 <= status <= 599 for status in several):  # noqa: PLR2004  HTTP's own range
        raise _bad('"expect_status" must be a status from 100 to 599, or an array of them', expected)
    return several


async def _result(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    kept = bytearray()
    async for chunk in answer.content.iter_chunked(16 * 1024):
        kept += chunk
        if len(kept) > BODY_LIMIT:
            answer.close()  # however much there is to come
            break
    headers: dict[str, str] = {}
    for name, value in answer.headers.items():
        joined = f"{headers[name]}, {value}" if name in headers else value
        headers[name] = shorten(joined.encode("utf-8", "replace").decode(), HEADER_LIMIT)
    result: dict[str, Any] = {"status": answer.status, "headers": headers, "body": _text(answer, kept[:BODY_LIMIT])}
    if len(kept) > BODY_LIMIT:
        result["truncated"] = True
    return result


def _text(answer: aiohttp.ClientResponse, body: bytearray) -> str:
    try:
        return body.decode(answer.charset or "utf-8", errors="replace")
    except LookupError:  # a charset nobody knows
        return body.decode("utf-8", errors="replace")


def _reason(error: aiohttp.ClientError) -> str:
    if isinstance(error, aiohttp.TooManyRedirects):
        return f"more than {REDIRECTS} redirects"
    # The texts of these two have the whole URL in them, with its password and its query.
    if isinstance(error, aiohttp.RedirectClientError):
        return f"redirected to {_shown(str(error.args[0]))}, which is no URL to follow"
    if isinstance(error, aiohttp.InvalidURL):
        return f"bad URL: the host {error.description or 'cannot be read'}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return str(error.os_error) if isinstance(error.os_error, PermissionError) else str(error)
    return shorten(" ".join(f"{type(error).__name__}: {error}".split()), 2 * SHOWN)


def _shown(url: str) -> str:
    """The URL without what may be secret: no user, no query."""
    try:
        parts = urlsplit(url)
        return shorten(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}", SHOWN)
    except ValueError:
        return "(an unreadable URL)"


def _bad(what: str, value: object) -> ExecutionFailed:
    return ExecutionFailed(f"bad spec: {what}, not {shorten(repr(value), SHOWN)}", final=True)
