"""What can be found, and what a pass comes to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

KINDS = {
    "lost": "acknowledged or due, and never executed to its end",
    "doubled": "executed, planned or ended once more than it may",
    "stale": "an end that counted although its fence had been taken away",
    "unexplained": "an attempt was lost, or a process ended, without a fault that explains it",
    "late": "started later than it may, or before its instant",
}
SHOWN = 20
"""Examples of each kind that are kept: a broken build has thousands."""


@dataclass(slots=True)
class Verdict:
    found: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def add(self, kind: str, what: str) -> None:
        self.found[kind] += 1
        if len(examples := self.examples.setdefault(kind, [])) < SHOWN:
            examples.append(what)

    @property
    def passed(self) -> bool:
        return not self.found
