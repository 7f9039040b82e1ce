"""The page at `/docs`: the OpenAPI document for people, made here, so that nothing of it runs or is loaded there."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from typing import Any

Json = dict[str, Any]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c1e21;
  background: #fff }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem; text-transform: capitalize }
code, pre { font: 14px/1.5 ui-monospace, monospace } pre { background: #f4f5f7; padding: .75rem; overflow-x: auto }
details { border: 1px solid #d8dbe0; border-radius: 6px; margin: .5rem 0; padding: .5rem .75rem }
summary { cursor: pointer } summary b { display: inline-block; min-width: 4.5rem }
summary span { color: #5b6068; margin-left: .75rem }
table { border-collapse: collapse; width: 100% } td { vertical-align: top; padding: .2rem .75rem .2rem 0 }
@media (prefers-color-scheme: dark) { body { color: #e4e6ea; background: #17191c } pre { background: #22252a }
  details { border-color: #3a3e45 } summary span { color: #9aa0a8 } }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The Content-Security-Policy that goes with it: its one style, and nothing else."""


def rendered(document: Json) -> str:
    """The page, whole."""
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])} API <small>{escape(info['version'])}</small></h1>",
        *(f"<p>{_prose(text)}</p>" for text in info["description"].split("\n\n")),
        "<p>For programs: <a href=/openapi.json>/openapi.json</a>.</p>",
    ]
    for tag in document["tags"]:
        parts.append(f"<h2>{escape(tag['name'])}</h2>")
        for path, methods in document["paths"].items():
            parts += [_operation(path, method, one) for method, one in methods.items() if one["tags"] == [tag["name"]]]
    parts.append("<h2>Types</h2>")
    parts += [_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    return "".join(parts)


def _operation(path: str, method: str, operation: Json) -> str:
    rows = [
        f"<tr><td><code>{escape(one['name'])}</code><td>{one['in']}{', needed' if one['required'] else ''}"
        f"<td>{_type(one['schema'])}<td>{_prose(one.get('description', ''))}"
        for one in operation["parameters"]
    ]
    body = operation.get("requestBody", {}).get("content", {})
    lines = [
        f"<details id={escape(operation['operationId'])}><summary><b>{method.upper()}</b> <code>{escape(path)}</code>"
    ]
    lines.append(
        f"<span>{_prose(operation['summary'])}</span></summary><p>{_prose(operation.get('description', ''))}</p>"
    )
    if rows:
        lines.append(f"<table>{''.join(rows)}</table>")
    for media, content in body.items():
        lines.append(f"<p>Body: <code>{escape(media)}</code>, {_type(content['schema'])}</p>")
    lines.append(f"<pre>{escape(_curl(path, method, operation))}</pre><table>")
    for status, answer in operation["responses"].items():
        kinds = ", ".join(_type(one["schema"]) for one in answer.get("content", {}).values())
        lines.append(f"<tr><td><code>{status}</code><td>{kinds}<td>{_prose(answer['description'])}")
    return "".join([*lines, "</table></details>"])


def _curl(path: str, method: str, operation: Json) -> str:
    for one in operation["parameters"]:
        if one["in"] == "path":
            path = path.replace(f"{{{one['name']}}}", str(one.get("example", one["name"].upper())))
    words = ["curl"]
    if method != "get":
        words.append(f"-X {method.upper()}")
    if operation["security"]:
        words.append('-H "Authorization: Bearer $TOKEN"')
    for media, content in list(operation.get("requestBody", {}).get("content", {}).items())[:1]:
        words.append(f"-H 'Content-Type: {media}'")
        if "example" in content:
            words.append(f"-d '{json.dumps(content['example'])}'")
    return " ".join([*words, f"http://127.0.0.1:8080{path}"])


def _schema(name: str, schema: Json) -> str:
    required = schema.get("required", ())
    rows = [
        f"<tr><td><code>{escape(field)}</code>{' *' if field in required else ''}<td>{_type(one)}"
        f"<td>{_prose(one.get('description', ''))}"
        for field, one in schema.get("properties", {}).items()
    ]
    about = _prose(schema.get("description", ""))
    head = f"<details id={escape(name)}><summary><code>{escape(name)}</code></summary><p>{about}</p>"
    return f"{head}<table>{''.join(rows)}</table></details>"


def _type(schema: Json) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href=#{name}>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    bounds = [str(schema[name]) for name in ("minimum", "minLength") if name in schema]
    bounds += [str(schema[name]) for name in ("maximum", "maxLength") if name in schema]
    default = f", default <code>{escape(json.dumps(schema['default']))}</code>" if "default" in schema else ""
    return escape(str(schema.get("type", "anything"))) + (f" ({' to '.join(bounds)})" if bounds else "") + default


def _prose(text: str) -> str:
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))
