#!/usr/bin/env python3
"""Ends with 0 when the process of this container is at work: `healthy [URL [TOKEN_FILE]]`.

Without a URL it asks a server's /readyz and then a worker's /metrics: who answers, decides. 401 is an answer, too: the
process lives, and only does not tell its figures to everybody.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from pathlib import Path

DEFAULT = ["http://127.0.0.1:8080/readyz", "http://127.0.0.1:9100/metrics"]
UNAUTHORIZED = 401


def main(url: str | None = None, token_file: str | None = None) -> int:
    headers = {"Authorization": f"Bearer {Path(token_file).read_text().strip()}"} if token_file else {}
    # A proxy of the environment must not be asked what this machine does.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    said = []
    for one in [url] if url else DEFAULT:
        try:
            with opener.open(urllib.request.Request(one, headers=headers), timeout=4):  # noqa: S310  http, from above
                return 0
        except urllib.error.HTTPError as error:
            if error.code == UNAUTHORIZED and not token_file:
                return 0
            sys.stderr.write(f"{one}: {error.code} {error.read(500).decode(errors='replace')}\n")
            return 1
        except OSError as error:
            said.append(f"{one}: {error}\n")
    sys.stderr.write("".join(said))
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
