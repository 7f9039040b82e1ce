"""What every request goes through: headers, methods, paths, queries, bodies. Nothing that comes in is a 500."""

from __future__ import annotations

import http.client
import socket
from typing import Any

import pytest

from scheduler.api.gate import MOST_BYTES, SAFE_HEADERS
from scheduler.api.routes import OPERATIONS
from tests.support.api import Client

JOBS = "/api/v1/apps/shop/jobs"
HELLO: dict[str, Any] = {"executor": "shell", "spec": {"command": "hi"}}
ODD_NAMES = ["a/b", "a%2Fb", "..", ".", "ü 日本", "a?b#c", "a+b", "a;b", "💥", "%", "a\\b", "a\nb", " "]


def encoded(name: str) -> str:
    return "".join(f"%{byte:02X}" for byte in name.encode())


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/healthz"), ("GET", "/nowhere"), ("GET", JOBS), ("PATCH", JOBS), ("POST", JOBS), ("GET", "/docs"),
     ("GET", f"{JOBS}/none"), ("HEAD", JOBS), ("GET", "/openapi.json")],
)  # fmt: skip
def test_every_answer_is_safe_to_show(api: Client, method: str, path: str) -> None:
    answer = api(method, path)
    for name, value in SAFE_HEADERS:
        if name == b"content-security-policy":
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        else:
            assert answer.headers[name.decode()] == value.decode(), name
    assert "server" not in answer.headers, "what is behind it is nobody's business"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_a_change_that_another_sites_page_asks_for_is_refused(api: Client, site: str, status: int) -> None:
    api("PUT", f"{JOBS}/j", HELLO)
    assert api("POST", f"{JOBS}/j/pause", Sec_Fetch_Site=site).status == status
    assert api.get(f"{JOBS}/j", Sec_Fetch_Site=site).status == 200


def test_a_method_that_is_not_possible_is_answered_with_those_that_are(server: Client) -> None:
    for path in {operation.path for operation in OPERATIONS}:
        methods = {operation.method for operation in OPERATIONS if operation.path == path}
        answer = server("PATCH" if "PATCH" not in methods else "TRACE", path.replace("{", "").replace("}", ""))
        assert answer.status == 405
        allowed = set(answer.headers["allow"].split(", "))
        assert allowed == methods | ({"HEAD"} if "GET" in methods else set())


def test_head_is_get_without_its_body(api: Client) -> None:
    head, get = api("HEAD", JOBS), api("GET", JOBS)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(get.body))


def test_a_slash_at_the_end_makes_no_difference(api: Client) -> None:
    assert api.get(f"{JOBS}/").json == api.get(JOBS).json
    assert api("PUT", f"{JOBS}/j/", HELLO).status == 201
    assert api.get(f"{JOBS}/j").status == 200


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/v1", "/api/v2/apps", "//api/v1/apps", "/api/v1/apps//jobs", "/%61pi/v1/apps"]
)
def test_there_is_nothing_at_other_paths(api: Client, path: str) -> None:
    assert (api.get(path).status, bool(api.get(path).detail)) == (404, True)


def test_a_name_may_hold_whatever_can_be_encoded(api: Client) -> None:
    for name in ODD_NAMES:
        path = f"/api/v1/apps/{encoded(name)}/jobs/{encoded(name)}"
        added = api("PUT", path, HELLO)
        assert (added.status, added.json["app"], added.json["name"]) == (201, name, name)
        assert api.read(added.headers["location"])["name"] == name
    found = [(row["app"], row["name"]) for row in api.pages("/api/v1/jobs?limit=2", "jobs")]
    assert sorted(found) == sorted((name, name) for name in ODD_NAMES)
    for name in ODD_NAMES:
        assert [row["name"] for row in api.pages(f"/api/v1/apps/{encoded(name)}/jobs?limit=1", "jobs")] == [name]


@pytest.mark.parametrize("part", ["%00", "a%00b", "%FF", "%C3", "%ED%A0%80", "%C0%AF", "x" * 201])
def test_a_path_that_no_name_can_have_is_not_found(api: Client, part: str) -> None:
    for path in (f"/api/v1/apps/{part}", f"{JOBS}/{part}", f"/api/v1/apps/{part}/jobs"):
        assert api.get(path).status == 404


@pytest.mark.parametrize("run", ["x", "-1", "1.5", "0x1", "9" * 19, "9" * 400, "%D9%A3", "1e3", "+1", "null"])
def test_a_run_that_is_no_number_is_not_found(api: Client, run: str) -> None:
    assert api.get(f"/api/v1/apps/shop/runs/{run}").status == 404


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "limit=", "limit=1&limit=2", "nonsense=1", "after=%00", "before_id=-1",
     "before_id=99999999999999999999", "state=lost", "state=null", "before_id=null", "job=a%00b", "LIMIT=1"],
)  # fmt: skip
def test_a_query_that_makes_no_sense_is_refused_in_a_line(api: Client, query: str) -> None:
    answer = api.get(f"/api/v1/runs?{query}")
    assert answer.status == 400
    assert "\n" not in answer.detail


@pytest.mark.parametrize("query", ["job=%FF", "job=null", "queue=%F0%9F%92%A5", "job=" + "x" * 5_000, "limit=7", ""])
def test_a_query_for_what_is_not_there_finds_nothing(api: Client, query: str) -> None:
    assert api.read(f"/api/v1/runs?{query}") == {"runs": [], "next": None}


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"null", 400), (b"[]", 400), (b'"text"', 400), (b"\xff\xfe", 400),
     (b'{"executor": "\xff"}', 400),
     (b"[" * 100_000, 400), (b'{"executor": "x", "spec": ' + b'{"a": ' * 50_000 + b"1" + b"}" * 50_001, 400),
     (b'{"executor": "x", "spec": {"n": ' + b"9" * 10_000 + b"}}", 400),
     (b'{"executor": "x", "spec": {"n": 1e999}}', 400), (b'{"executor": "\\ud800", "spec": {}}', 400),
     (b'{"executor": "x", "spec": {"\\u0000": 1}}', 400), (b'{"executor": "x", "spec": {"a": NaN}}', 400),
     (b'{"executor": "x", "spec": {"a": 1e300}}', 201), (b'{"executor": "x", "spec": {"a": "\\ud83d\\ude00"}}', 201),
     (b" " * (MOST_BYTES + 1), 413)],
    ids=range(17),
)  # fmt: skip
def test_a_body_is_understood_or_refused(api: Client, body: bytes, status: int) -> None:
    answer = api("PUT", f"{JOBS}/j", body, Content_Type="application/json")
    assert answer.status == status, answer.body
    if status != 201:
        assert len(answer.detail) < 300


def test_a_body_of_another_type_is_refused(api: Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        answer = api("PUT", f"{JOBS}/j", b"{}", Content_Type=kind)
        assert (answer.status, "application/json" in answer.detail) == (415, True)
    assert api("PUT", f"{JOBS}/j", HELLO, Content_Type="Application/JSON; charset=utf-8").status == 201


def test_a_body_that_never_ends_is_refused_when_it_is_too_long(api: Client) -> None:
    """Sent in chunks, without saying how long it will be; the answer comes before the end does."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as wire:
        head = f"PUT {JOBS}/j HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        wire.sendall((head + "".join(f"{name}: {value}\r\n" for name, value in api.headers.items()) + "\r\n").encode())
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        try:
            for _ in range(2 * MOST_BYTES // 0x10000):
                wire.sendall(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = http.client.HTTPResponse(wire)
        try:
            answer.begin()
        except ConnectionResetError:
            return  # it was closed under what we still sent, which takes the answer with it
        assert answer.status == 413


def test_a_request_that_is_announced_too_long_is_refused_without_being_read(api: Client) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as wire:
        head = f"PUT {JOBS}/j HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n"
        wire.sendall((head + "".join(f"{name}: {value}\r\n" for name, value in api.headers.items()) + "\r\n").encode())
        answer = http.client.HTTPResponse(wire)
        answer.begin()
        assert answer.status == 413


def test_a_problem_never_says_what_a_secret_is(server: Client) -> None:
    token = "sched_this-is-no-token-and-yet-a-secret"
    for answer in (
        server.bearing(token).get(JOBS),
        server.basic(token).get(JOBS),
        server.get(JOBS, Authorization=token),
    ):
        assert (answer.status, token in answer.body.decode()) == (401, False)


def test_an_authorization_that_cannot_be_read_is_none(server: Client) -> None:
    for header in (
        "Basic !!!",
        "Basic gA==",
        "Basic",
        "Bearer",
        "Bearer  ",
        "Digest x",
        "Bearer sched_\xe9",
        "x" * 5_000,
    ):
        assert server.get(JOBS, Authorization=header).status == 401, header
