"""The example of docs/tracing.md, as the page has it: its task, its program, its worker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg

from tests.support.collector import collecting
from tests.support.command import COMMAND, clean_environment
from tests.support.fleet import QUICK, ROOT, wait_until

PAGE = (ROOT / "docs" / "tracing.md").read_text(encoding="utf-8")


def test_a_request_an_enqueue_two_attempts_and_a_task_are_one_trace(
    dsn: str, db: psycopg.Connection, tmp_path: Path
) -> None:
    tasks, shop = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "tasks.py").write_text(tasks)
    (tmp_path / "shop.py").write_text(shop)
    (script,) = re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    install, setting, start = script.splitlines()
    assert install == "pip install 'walclock[otel]'"
    name, where = setting.removeprefix("export ").split("=")
    assert where == "http://localhost:4318"
    with collecting() as collector:
        env = {**clean_environment(), **QUICK, "SCHEDULER_DSN": dsn, name: collector.url, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "shop.py"], cwd=tmp_path, env=env, check=True, timeout=60)
        log = tmp_path / "worker.log"
        with log.open("wb") as file:
            command = [*COMMAND, *start.split()[1:]]
            env["PYTHONPATH"] += os.pathsep + str(tmp_path)
            worker = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=file, stderr=file)
        try:
            query = "select count(*) from scheduler.runs where state = 'succeeded'"
            wait_until(lambda: db.execute(query).fetchone() == (1,), saying=log.read_text)
            worker.terminate()
            assert worker.wait(30) == 0
        finally:
            worker.kill()
        request, enqueue, first, second, card = collector.spans()
    assert [span.name for span in (request, enqueue, first, second, card)] == [
        "POST /orders",
        "enqueue shop/default",
        "run python",
        "run python",
        "charge card",
    ]
    assert len({span.trace for span in collector.spans()}) == 1
    assert [span.parent for span in (request, enqueue, first, second, card)] == [
        "",
        request.id,
        enqueue.id,
        enqueue.id,
        second.id,
    ]
    assert {tuple(span.links) for span in (first, second)} == {((enqueue.trace, enqueue.id),)}
    assert (first.said, second.is_error) == ("the task asked for a retry", False)
