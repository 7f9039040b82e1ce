"""A process with one plain connection that writes down when it hears a notification; the floor of a pick-up.

The payload is the number of the notification; stamps are written as worker.bench writes them.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time

import psycopg

from scheduler.bench.statements import statement


def main() -> None:
    told = json.loads(sys.stdin.readline())
    file = os.open(told["stamps"], os.O_WRONLY | os.O_APPEND)
    with psycopg.connect(told["conninfo"], autocommit=True) as conn:
        conn.execute(statement("listen"))
        print("ready", flush=True)  # noqa: T201  the answer
        while True:
            select.select([conn.fileno()], [], [])
            conn.pgconn.consume_input()
            while (heard := conn.pgconn.notifies()) is not None:
                os.write(file, b"%d %d %d\n" % (int(heard.extra), time.monotonic_ns(), time.time_ns()))


if __name__ == "__main__":
    main()
