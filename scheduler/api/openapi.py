"""The OpenAPI 3.1 document of the operations: parameters, bodies and answers, from the types they are checked by."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from scheduler import __version__
from scheduler.api import problem
from scheduler.api.kinds import LAST_ID
from scheduler.api.operation import JSON, NDJSON, Operation

Json = dict[str, Any]

_REF = "#/components/schemas/{name}"
_ABOUT = """\
What the command line can do, for programs without a connection to the database. A token (`scheduler token create`) goes
along as `Authorization: Bearer sched_…`; as the password of Basic, for clients that know nothing else.

Instants are ISO 8601, durations numbers of seconds. A list ends with the address of its `next` page. Whatever goes
wrong is an `application/problem+json`. An app that a token does not reach looks like one that is not there."""
_NAME: Json = {"type": "string", "minLength": 1, "maxLength": 100}
_PARTS: dict[str, Json] = {
    "app": {"schema": _NAME, "description": "The app's name.", "example": "billing"},
    "queue": {"schema": _NAME, "description": "The queue's name.", "example": "default"},
    "job": {"schema": {**_NAME, "maxLength": 200}, "description": "The job's name.", "example": "nightly"},
    "alarm": {
        "schema": {**_NAME, "maxLength": 200},
        "description": "The alarm's name.",
        "example": "nightly-failed",
    },
    "run": {
        "schema": {"type": "integer", "minimum": 0, "maximum": LAST_ID},
        "description": "The run's id.",
        "example": 42,
    },
    "event": {
        "schema": {"type": "string", "minLength": 1, "maxLength": 100},
        "description": "The event's id, as publishing answered it.",
        "example": "42",
    },
    "token": {"schema": {**_NAME, "maxLength": 200}, "description": "The token's name.", "example": "ci"},
}
_CONDITIONS = {
    "Idempotency-Key": "A request with a key that this token used in the last day is answered as that was. Or 422.",
    "traceparent": "What the runs belong to, as W3C writes it; what is malformed is passed over.",
    "If-Match": "Only if the definition still has this ETag; * : only if it is there. Otherwise 412.",
    "If-None-Match": "Not if the definition has this ETag; * : not if it is there at all. GET answers 304, others 412.",
}
_VALUES: dict[str, Json] = {
    "Idempotency-Key": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_ETAGS = {"If-Match", "If-None-Match"}
_WORDS = {
    408: "The body did not come in time.",
    422: "The Idempotency-Key was used with another body.",
    304: "It has the ETag that the caller knows.",
    400: "A value is refused; `detail` says which, and what would be right.",
    401: "There is no token, or one that is unknown, expired or revoked.",
    403: "The token does not have the scope, or another site's page asks.",
    404: "It is not there, or the token does not reach its app.",
    405: "The path does not know the method.",
    409: "It exists already, or its state forbids it.",
    410: "It is gone, or somebody else's by now.",
    412: "The definition is not the one that the caller expects.",
    413: "The body is too large.",
    415: "The body is of a media type that is not taken.",
    421: "Without tokens, the header Host must name this machine's loopback.",
    429: "There were too many of these requests.",
    503: "The database or its turn cannot be had now; try again after `Retry-After` seconds.",
}


def document(operations: Sequence[Operation]) -> Json:
    """What `/openapi.json` says."""
    kinds = _kinds(operations)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    schema_of: dict[int, Json] = {id(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    queries = {
        id(operation.query): components.pop(_name(schema_of[id(operation.query)]))
        for operation in {id(operation.query): operation for operation in operations if operation.query}.values()
    }
    paths: dict[str, Json] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, schema_of, queries)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Walclock", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(operation.tag for operation in operations)],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token, `sched_…`."},
                "basic": {"type": "http", "scheme": "basic", "description": "A token as the password of any name."},
            },
        },
    }


def _kinds(operations: Sequence[Operation]) -> list[Any]:
    found: dict[int, Any] = {id(problem.Body): problem.Body}
    for operation in operations:
        for kind in (operation.body, operation.reads, operation.query, operation.answer):
            if kind is not None:
                found.setdefault(id(kind), kind)
    return list(found.values())


def _described(operation: Operation, schema_of: dict[int, Json], queries: dict[int, Json]) -> Json:
    described: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [*_path_parameters(operation), *_query_parameters(operation, queries), *_headers(operation)],
        "responses": _responses(operation, schema_of),
        "security": [] if operation.scope is None else [{"bearer": [operation.scope]}, {"basic": [operation.scope]}],
    }
    if operation.scope is not None:
        of_all = ", of a token for all apps" if operation.everywhere else ""
        described["description"] = f"Scope `{operation.scope}`{of_all}."
    kind = operation.body if operation.body is not None else operation.reads
    if kind is not None:
        content: Json = {"schema": schema_of[id(kind)]}
        if operation.example is not None:
            content["example"] = operation.example
        described["requestBody"] = {
            "required": not operation.body_may_lack,
            "content": {media: _lines(content) if media == NDJSON else content for media in operation.media or (JSON,)},
        }
    return described


def _lines(content: Json) -> Json:
    schema = {"type": "string", "description": "In each line one of what the JSON has one or several of."}
    return {"schema": schema, "example": f"{json.dumps(content.get('example'))}\n"}


def _path_parameters(operation: Operation) -> list[Json]:
    names = re.findall(r"\{(\w+)\}", operation.path)
    return [{"name": name, "in": "path", "required": True, **_PARTS.get(name, {"schema": _NAME})} for name in names]


def _query_parameters(operation: Operation, queries: dict[int, Json]) -> list[Json]:
    if operation.query is None:
        return []
    schema = queries[id(operation.query)]
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), **_parameter(one)}
        for name, one in schema["properties"].items()
    ]


def _name(schema: Json) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _parameter(schema: Json) -> Json:
    """A parameter that may lack is not one that may be null: a query has no way to say that."""
    others = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    kept = {name: value for name, value in schema.items() if name not in {"anyOf", "description", "default"}}
    if len(others) == 1:
        kept |= others[0]
    elif others:
        kept["anyOf"] = others
    if "enum" in kept:
        kept["enum"] = [value for value in kept["enum"] if value is not None]
    if schema.get("default") is not None:
        kept["default"] = schema["default"]
    description = schema.get("description") or kept.get("description")
    kept.pop("description", None)
    return {"schema": kept, **({"description": description} if description else {})}


def _headers(operation: Operation) -> list[Json]:
    return [
        {
            "name": name,
            "in": "header",
            "required": False,
            "schema": _VALUES.get(name, {"type": "string"}),
            "description": _CONDITIONS[name],
        }
        for name in operation.conditions
    ]


def _responses(operation: Operation, schema_of: dict[int, Json]) -> Json:
    responses: Json = {}
    for status in (operation.status, *operation.also):
        good: Json = {"description": _WORDS.get(status, HTTPStatus(status).phrase)}
        if operation.answer is not None and status < 300:  # noqa: PLR2004  others have no content
            good["content"] = {operation.sends: {"schema": schema_of[id(operation.answer)]}}
        if _ETAGS.intersection(operation.conditions) and status != 204:  # noqa: PLR2004
            good["headers"] = {"ETag": {"schema": {"type": "string"}, "description": "The definition's version."}}
        responses[str(status)] = good
    for status in sorted(_errors(operation)):
        responses[str(status)] = {
            "description": _WORDS.get(status, HTTPStatus(status).phrase),
            "content": {problem.MEDIA_TYPE: {"schema": schema_of[id(problem.Body)]}},
        }
    return responses


def _errors(operation: Operation) -> set[int]:
    errors = set(operation.errors)
    if operation.scope is not None:
        errors |= {401, 403, 421, 429, 503}
    if "{" in operation.path:
        errors.add(404)
    if operation.query is not None:
        errors.add(400)
    if operation.body is not None or operation.reads is not None:
        errors |= {400, 413, 415}
    return errors
