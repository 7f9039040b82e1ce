"""From a request to its answer: who asks, whether they may, what they say, and what came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from scheduler.api.access import Access
from scheduler.api.data import Data
from scheduler.api.operation import JSON, Ask, Complaint, Operation, Reply
from scheduler.api.problem import Problem, problem_of
from scheduler.config import Settings
from scheduler.metrics.exposition import Exposition

MOST_BYTES = 4 * 1024 * 1024
"""Of a body that is read whole; what is streamed has no limit but that of each line."""
# Answers are data: nothing may frame them, guess another type, or keep them.
SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_SAFE_NAMES = frozenset(name for name, _ in SAFE_HEADERS)
_JSON_HEADERS = (*SAFE_HEADERS, (b"content-type", JSON.encode()))
_LONGEST = {"job": 200, "alarm": 200}  # characters; of other names 100
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Resource:
    """The operations of one path, as an ASGI application."""

    def __init__(
        self,
        operations: Sequence[Operation],
        access: Access,
        data: Data,
        settings: Settings,
        *,
        complaint: Complaint,
        exposition: Exposition,
    ) -> None:
        self._operations = {operation.method: operation for operation in operations}
        if "GET" in self._operations:
            self._operations["HEAD"] = self._operations["GET"]
        self._access = access
        self._data = data
        self._settings = settings
        self._complaint = complaint
        self._exposition = exposition

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, answer = await self._answer(Request(scope, receive))
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001  every failure is answered
            status, answer = 0, problem_of(error).response()
        if isinstance(answer, Response):
            await answer(scope, receive, safely(send))
            return
        # Not as a Response: it is the answer to every post.
        headers = [*_JSON_HEADERS, (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _answer(self, request: Request) -> tuple[int, bytes | Response]:
        operation = self._operations.get(request.method)
        if operation is None:
            allowed = ", ".join(sorted(self._operations))
            raise Problem(405, f"{request.method} is not possible here: {allowed}", headers={"Allow": allowed})
        # Once and as a dict: Starlette looks through all of them for each that is asked for.
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
        refuse_cross_site(request.method, headers)
        caller = await self._admit(operation, headers)
        ask = Ask(
            request, headers, caller, self._data, self._settings, _parts(request), self._complaint, self._exposition
        )
        app = ask.path.get("app", operation.app)
        if app is not None:
            caller.ensure_reaches(app)
        if operation.query is not None:
            ask.query = _query(request, operation.query)
        if operation.body is not None and not (operation.body_may_lack and _has_no_body(headers)):
            media_of(ask, operation.media)
            ask.body = decoded(await read(ask), operation.body)
        answer = await operation.handle(ask)
        if isinstance(answer, Response):
            return operation.status, answer
        if isinstance(answer, Reply):
            return answer.status, msgspec.json.encode(answer.content)
        return operation.status, msgspec.json.encode(answer)

    async def _admit(self, operation: Operation, headers: Mapping[str, str]) -> Any:
        if operation.scope is None:
            return None
        caller = await self._access.admit(headers)
        if operation.scope not in caller.scopes:
            raise Problem(403, f"this needs a token with the scope {operation.scope}")
        if operation.everywhere and caller.apps is not None:
            raise Problem(403, "this is about all apps, and the token is for some of them")
        return caller


async def read(ask: Ask, most: int = MOST_BYTES) -> bytes:
    """The body. Problem 413 as soon as it is longer than `most` bytes."""
    declared = ask.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise Problem(413, f"the body has {int(declared):,} bytes, at most {most:,} are taken")
    kept: list[bytes] = []
    size = 0
    async for chunk in chunks(ask.request):
        kept.append(chunk)
        size += len(chunk)
        if size > most:
            raise Problem(413, f"the body is longer than the {most:,} bytes that are taken")
    return kept[0] if len(kept) == 1 else b"".join(kept)


async def chunks(request: Request) -> AsyncIterator[bytes]:
    """The body, as it comes. ClientDisconnect."""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


def refuse_cross_site(method: str, headers: Mapping[str, str]) -> None:
    """Problem 403 for a change that another site's page asks for: every browser says where a request comes from."""
    if method not in _READING and headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        raise Problem(403, "requests of other sites' pages are refused")


def media_of(ask: Ask, media: Sequence[str]) -> str:
    """Which of `media` the body is said to be; empty, whatever it says. Problem 415."""
    given = ask.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media and given not in media:
        raise Problem(415, f"the Content-Type {given[:100] or 'is missing'}: {' or '.join(media)} is needed")
    return given


def _has_no_body(headers: Mapping[str, str]) -> bool:
    return "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"


def decoded(body: bytes, kind: Any) -> Any:
    """The value of a JSON text. Problem 400, or msgspec's ValidationError or DecodeError, which become one."""
    try:
        return msgspec.json.decode(body, type=kind)
    except UnicodeDecodeError:
        raise Problem(400, "the JSON is not UTF-8") from None
    except RecursionError:
        raise Problem(400, "the JSON is nested too deeply") from None


def _parts(request: Request) -> dict[str, str]:
    """The path's parts. They are matched as they were sent, so that a name may hold a slash, and decoded here."""
    try:
        parts = {name: unquote(text, errors="strict") for name, text in request.path_params.items()}
    except UnicodeDecodeError:
        raise Problem(404, "the path is not UTF-8") from None
    if any("\0" in text for text in parts.values()):
        raise Problem(404, "the path holds a NUL character")
    if any(len(text) > _LONGEST.get(name, 100) for name, text in parts.items()):
        raise Problem(404, "a name in the path is longer than any there is")
    return parts


def _query(request: Request, kind: Any) -> Any:
    given: dict[str, Any] = {}
    fields = msgspec.structs.fields(kind)
    many = {field.encode_name for field in fields if "tuple" in str(field.type)}
    for name, text in request.query_params.multi_items():
        if name in many:
            given.setdefault(name, []).append(text)
        elif name in given:
            raise Problem(400, f"{name} is given twice")
        else:
            given[name] = text
    if any("\0" in text for _, text in request.query_params.multi_items()):
        raise Problem(400, "the query holds a NUL character")
    query = msgspec.convert(given, kind, strict=False)
    for field in fields:  # for msgspec the text `null` is None, and a number an instant
        if field.encode_name not in given:
            continue
        value = getattr(query, field.name)
        if value is None or (isinstance(value, datetime) and ":" not in given[field.encode_name]):
            raise Problem(400, f"{field.encode_name} is {given[field.encode_name]}, which is no value of it")
    return query


def safely(send: Send) -> Send:
    """Adds the headers that every answer has, unless it has its own."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message.setdefault("headers", [])
            given = {name for name, _ in headers if name in _SAFE_NAMES}
            headers.extend(one for one in SAFE_HEADERS if one[0] not in given)
        await send(message)

    return sent
