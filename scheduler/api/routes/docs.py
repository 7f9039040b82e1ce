"""The API's own description: `/openapi.json` for programs, `/docs` for people. Open to everybody."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import msgspec
from starlette.responses import Response

from scheduler.api import page
from scheduler.api.openapi import document
from scheduler.api.operation import JSON, Ask, Operation


def describing(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """The operations that describe these."""

    @cache
    def described() -> tuple[bytes, str]:
        found = document(operations)
        return msgspec.json.encode(found), page.rendered(found)

    async def get_openapi(_: Ask) -> Response:
        return Response(described()[0], media_type=JSON)

    async def get_docs(_: Ask) -> Response:
        headers = {"Content-Security-Policy": page.POLICY}
        return Response(described()[1], headers=headers, media_type="text/html")

    return (
        Operation(
            method="GET",
            path="/openapi.json",
            handle=get_openapi,
            scope=None,
            summary="The OpenAPI document.",
            tag="docs",
        ),
        Operation(
            method="GET",
            path="/docs",
            handle=get_docs,
            scope=None,
            summary="The same for people.",
            tag="docs",
            sends="text/html",
        ),
    )
