"""Makes what is not there yet of the secrets in a folder, at random, each file for the one user that reads it.

Run as root, in a container that does nothing else. A second run changes nothing.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

POSTGRES, WALCLOCK, PROMETHEUS, GRAFANA = 999, 10001, 65534, 472  # the users of the images
ROOT = 0


def main(folder: Path) -> None:
    password, token = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    write(folder / "postgres", password, POSTGRES)
    write(folder / "pgpass", f"*:*:*:scheduler:{(folder / 'postgres').read_text()}", WALCLOCK)
    write(folder / "metrics-token", token, WALCLOCK)
    write(folder / "metrics-token-prometheus", (folder / "metrics-token").read_text(), PROMETHEUS)
    write(folder / "grafana-admin", secrets.token_urlsafe(32), GRAFANA)


def write(path: Path, text: str, user: int) -> None:
    """Whole or not at all; readable by one user: libpq takes no password file that others may read."""
    if path.exists():
        return
    half = path.with_suffix(".new")
    half.unlink(missing_ok=True)
    with os.fdopen(os.open(half, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o400), "w") as file:
        file.write(text)
    if os.geteuid() == ROOT:
        os.chown(half, user, -1)
    half.rename(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
