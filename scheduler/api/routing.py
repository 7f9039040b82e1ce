"""Which resource a path means. Parts in braces stand for any one part; a part as it is written goes before them.

A tree and not Starlette's router, which tries one regular expression after the other: a path takes the same time
however many there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

Target = TypeVar("Target")


class Routes(Generic[Target]):
    """Paths are given and matched as they are sent, percent-encoded, so that a name in one may hold a slash."""

    def __init__(self, targets: Mapping[str, Target]) -> None:
        self._root = _Node[Target]()
        for path, target in targets.items():
            self._root.add(_parts(path), target)

    def find(self, path: str) -> tuple[Target, dict[str, str]] | None:
        """The target, and what its names in braces stand for. A slash at the end makes no difference."""
        return self._root.find(_parts(path), 0)


def _parts(path: str) -> list[str]:
    return path.rstrip("/")[1:].split("/")


class _Node(Generic[Target]):
    __slots__ = ("any", "parts", "target")

    def __init__(self) -> None:
        self.parts: dict[str, _Node[Target]] = {}
        self.any: _Node[Target] | None = None
        self.target: tuple[Target, tuple[tuple[int, str], ...]] | None = None

    def add(self, parts: list[str], target: Target) -> None:
        node = self
        for part in parts:
            if part.startswith("{"):
                node.any = node.any or _Node()
                node = node.any
            else:
                node = node.parts.setdefault(part, _Node())
        names = tuple((place, part[1:-1]) for place, part in enumerate(parts) if part.startswith("{"))
        node.target = target, names

    def find(self, parts: list[str], place: int) -> tuple[Target, dict[str, str]] | None:
        if place == len(parts):
            if self.target is None:
                return None
            target, names = self.target
            return target, {name: parts[at] for at, name in names}
        for node in (self.parts.get(parts[place]), self.any if parts[place] else None):
            if node is not None and (found := node.find(parts, place + 1)) is not None:
                return found
        return None
