"""Who alarms are told to: a web server and a mail server on loopback that keep what they get."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hooks:
    """`got` holds of each request path and query, JSON, and headers; so many as `refuses` says are answered 500."""

    port: int
    got: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    refuses: int = 0
    broken: set[str] = field(default_factory=set)
    """Paths that are answered 500."""
    answer: dict[str, Any] = field(default_factory=lambda: {"errcode": 0, "errmsg": "ok"})

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def bodies(self, **wanted: Any) -> list[dict[str, Any]]:
        """The JSON of those whose fields are so."""
        return [body for _, body, _ in self.got if all(body.get(name) == value for name, value in wanted.items())]


@contextmanager
def hooks() -> Iterator[Hooks]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if kept.refuses > 0 or self.path in kept.broken:
                kept.refuses -= self.path not in kept.broken
                self.send_response(500)
                self.end_headers()
                return
            kept.got.append((self.path, body, dict(self.headers)))
            said = json.dumps(kept.answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept = Hooks(server.server_address[1])
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield kept
        finally:
            server.shutdown()


@dataclass
class Mails:
    port: int
    got: list[tuple[list[str], EmailMessage]] = field(default_factory=list)


@contextmanager
def mails() -> Iterator[Mails]:
    """Takes mail by SMTP (RFC 5321) from whoever comes; mail to nobody@… is refused."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 tests")
            to: list[str] = []
            while line := self.rfile.readline().decode().strip():
                verb = line.split(" ")[0].upper()
                if verb == "RCPT" and "nobody@" in line:
                    self._say("550 no such user here")
                    continue
                if verb == "RCPT":
                    to.append(line.partition("<")[2].partition(">")[0])
                if verb == "DATA":
                    self._say("354 go on")
                    lines = list(iter(self.rfile.readline, b".\r\n"))
                    data = b"".join(one.removeprefix(b".") if one.startswith(b"..") else one for one in lines)
                    message = message_from_bytes(data, policy=policy.default)
                    assert isinstance(message, EmailMessage)
                    kept.got.append((to, message))
                self._say("221 bye" if verb == "QUIT" else "250 ok")
                if verb == "QUIT":
                    return

        def _say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        kept = Mails(server.server_address[1])
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield kept
        finally:
            server.shutdown()
