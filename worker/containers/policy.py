"""What this worker lets containers do, beyond what is harmless: nothing, unless its operator says so.

Whoever can insert a row decides what a spec asks for, and the engine's socket is root on its machine. So each thing
that leads out of a container has to be allowed by name, in SCHEDULER_CONTAINER_ALLOW:

    privileged              the whole machine
    writable                an image's own files may be changed, within the container (disk space of the machine)
    network:NAME            the network NAME instead of the engine's own; `network:host` is the machine's
    capability:NAME         one capability of root, such as NET_BIND_SERVICE
    mount:SOURCE[:ro]       this path of the machine, or this volume, and none below or above it; with :ro for reading

Mounts are compared as they are written. A rule for everything below a path would be one that a container gets around,
which may write there: it leaves a symbolic link to / and mounts that the next time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from scheduler.errors import ConfigError
from worker.outcome import ExecutionFailed, shorten
from worker.spec import SHOWN

FREE_NETWORKS = ("none", "bridge")  # no way out, and the engine's own
_ENTRY = re.compile(r"privileged|writable|network:\S+|capability:[A-Z_]+|mount:[^\s:]+(:ro)?")


class Policy:
    def __init__(self, allow: Sequence[str], images: Sequence[str]) -> None:
        """`images`: patterns of what may be started; none: any image. ConfigError for an entry nobody understands."""
        for entry in allow:
            if not _ENTRY.fullmatch(entry):
                raise ConfigError(
                    f"SCHEDULER_CONTAINER_ALLOW has {entry!r}",
                    hint="it takes privileged, writable, network:NAME, capability:NAME and mount:SOURCE[:ro]",
                )
        self._allowed = frozenset(allow)
        self._images = tuple(images)

    def admit_image(self, image: str) -> None:
        """By the name as it is written: `alpine` and `docker.io/library/alpine` are two names."""
        if self._images and not any(fnmatchcase(image, pattern) for pattern in self._images):
            raise _refused(f"image {shorten(image, SHOWN)!r}", "SCHEDULER_CONTAINER_IMAGES has no pattern for it")

    def admit(self, what: str) -> None:
        """ExecutionFailed unless `privileged`, `writable` or `capability:NAME` was allowed."""
        if what not in self._allowed:
            raise _refused(what, f"SCHEDULER_CONTAINER_ALLOW does not have {what!r}")

    def admit_network(self, name: str) -> None:
        if name not in FREE_NETWORKS:
            self.admit(f"network:{name}")

    def admit_mount(self, source: str, *, read_only: bool) -> None:
        entry = f"mount:{source}"
        if read_only and f"{entry}:ro" in self._allowed:
            return
        self.admit(entry)


def _refused(what: str, why: str) -> ExecutionFailed:
    return ExecutionFailed(f"refused: {what}: this worker's {why}", final=True)
