"""What docs/forecast.md says is what happens when it is typed in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.clock import Clock
from tests.support.command import clean_environment

PAGE = (Path(__file__).parents[2] / "docs" / "forecast.md").read_text(encoding="utf-8")


def test_the_examples_of_the_page_work_and_show_what_it_shows(dsn: str, clock: Clock, tmp_path: Path) -> None:
    clock.set("2026-03-01T12:00:00Z")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**clean_environment(), "SCHEDULER_DSN": dsn, "PATH": path, "PYTHONUTF8": "1", "COLUMNS": "80"}
    said: list[str] = []
    for text in re.findall(r"^```bash\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (text, done.stdout, done.stderr)
        said.append(done.stdout)
    (shown,) = re.findall(r"^```text\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert shown in said[0]
    month = json.loads((tmp_path / "month.json").read_text(encoding="utf-8"))
    assert len(month["per_minute"]) == 30 * 24 * 60
    assert "<svg" in (tmp_path / "forecast.svg").read_text(encoding="utf-8")
    assert re.search(r"^fires of shop/nightly +1 +4$", said[-1], re.MULTILINE)
    assert re.search(r"^fires of shop/report +- +15$", said[-1], re.MULTILINE)
