"""A process of many clients: each connection sends its next insert as soon as the last one is committed.

Driven through libpq by one selector, without psycopg's cursors in between, so that the server is measured and not the
clients: 64 of them in two processes made 19,960 inserts/s into a bare table where pgbench made 20,720.
Speaks lines: `ready`, then for each `<name> <seconds>` that it reads `<commits> <seconds>`.
"""

from __future__ import annotations

import json
import selectors
import sys
import time

from psycopg import pq

from scheduler.bench.statements import statement

_FINE = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


class Clients:
    def __init__(self, conninfo: str, schema: str, inserts: dict[str, list[str]], count: int) -> None:
        """`inserts`: what each connection has prepared, statements by name with their parameters, all of them texts."""
        self._parameters = {name: [text.encode() for text in texts] for name, texts in inserts.items()}
        self._connections = [self._connected(conninfo, schema) for _ in range(count)]
        self._selector = selectors.DefaultSelector()
        for one in self._connections:
            self._selector.register(one.socket, selectors.EVENT_READ, one)

    def insert(self, name: str, seconds: float) -> tuple[int, float]:
        """Commits of all connections, and how long they took."""
        started = time.perf_counter()
        until = started + seconds
        commits, waiting = 0, len(self._connections)
        prepared, parameters = name.encode(), self._parameters[name]

        def send(one: pq.abc.PGconn) -> None:
            one.send_query_prepared(prepared, parameters)
            one.flush()

        for one in self._connections:
            send(one)
        while waiting:
            for key, _ in self._selector.select():
                one = key.data
                one.consume_input()
                if one.is_busy():
                    continue
                _checked(one.get_result())
                while one.get_result() is not None:
                    pass
                commits += 1
                if time.perf_counter() < until:
                    send(one)
                else:
                    waiting -= 1
        return commits, time.perf_counter() - started

    def _connected(self, conninfo: str, schema: str) -> pq.abc.PGconn:
        one = pq.PGconn.connect(conninfo.encode())
        if one.status != pq.ConnStatus.OK:
            raise SystemExit(one.error_message.decode(errors="replace"))
        _checked(one.exec_params(statement("session"), [schema.encode()]))
        for name in self._parameters:
            _checked(one.prepare(name.encode(), statement(name)))
        one.nonblocking = 1
        return one


def _checked(result: pq.abc.PGresult | None) -> None:
    if result is None or result.status not in _FINE:
        raise SystemExit("no answer" if result is None else result.error_message.decode(errors="replace"))


def main() -> None:
    clients = Clients(**json.loads(sys.stdin.readline()))
    print("ready", flush=True)  # noqa: T201  the answer
    for line in sys.stdin:
        name, wanted = line.split()
        commits, seconds = clients.insert(name, float(wanted))
        print(commits, seconds, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
