"""What Prometheus scrapes: about all apps, so for a token that reaches them all."""

from __future__ import annotations

from starlette.responses import Response

from scheduler.api.operation import Ask, Operation


async def get_metrics(ask: Ask) -> Response:
    text, media = await ask.exposition.answer(ask.headers.get("accept", ""))
    return Response(text, headers={"content-type": media})


OPERATIONS = (
    Operation(
        method="GET",
        path="/metrics",
        handle=get_metrics,
        scope="read",
        everywhere=True,
        summary="What this process counts and measures, for Prometheus.",
        tag="health",
        sends="text/plain",
    ),
)
