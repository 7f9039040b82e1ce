"""What docs/why.md and docs/doctor.md say is what happens when it is typed in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import clean_environment

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("page", "says"),
    [("why.md", ["not_due: It is due at ", '"code": "no_worker"']), ("doctor.md", ["warnings\n", '"is_sound": false'])],
)
def test_the_examples_of_the_page_work(page: str, says: list[str], dsn: str, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**clean_environment(), "SCHEDULER_DSN": dsn, "PATH": path}
    (text,) = re.findall(r"^```sh\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for one in says:
        assert one in done.stdout
