"""The ASGI application, put together from the table of operations."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from scheduler.api.access import Access
from scheduler.api.data import Data
from scheduler.api.gate import Resource, safely
from scheduler.api.operation import Complaint, Operation
from scheduler.api.problem import Problem
from scheduler.api.routes import OPERATIONS
from scheduler.api.routing import Routes
from scheduler.config import Settings
from scheduler.metrics.exposition import Exposition


class Application:
    """Paths are matched as they were sent, percent-encoded, and with a slash at their end or without."""

    def __init__(
        self,
        access: Access,
        data: Data,
        settings: Settings,
        complaint: Complaint = lambda: None,
        exposition: Exposition | None = None,
    ) -> None:
        exposition = exposition or Exposition()
        by_path: dict[str, list[Operation]] = {}
        for operation in OPERATIONS:
            by_path.setdefault(operation.path, []).append(operation)
        self._routes = Routes(
            {
                path: Resource(operations, access, data, settings, complaint=complaint, exposition=exposition)
                for path, operations in by_path.items()
            }
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        found = self._routes.find(scope["raw_path"].decode("ascii", "replace"))
        if found is None:
            await Problem(404, "there is nothing at this path").response()(scope, receive, safely(send))
            return
        resource, scope["path_params"] = found
        await resource(scope, receive, send)
