"""What was measured, as it is kept: one JSON file, to which several runs may add."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Self

DIGITS = 4  # that are kept: the noise is in the second


@dataclass(slots=True)
class Results:
    date: str = ""
    commands: list[str] = field(default_factory=list)
    """More than one where a run was taken apart."""
    size: str = ""
    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    """As they were when it was measured, whatever the catalogue says by now."""
    measured: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    """Peer, measure, repetitions: numbers by name, or the text of an error."""

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(**json.loads(path.read_text()))

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def add(self, peer: str, measure: str, numbers: dict[str, Any]) -> None:
        kept = {name: _short(value) for name, value in numbers.items()}
        self.measured.setdefault(peer, {}).setdefault(measure, []).append(kept)

    def median(self, peer: str, measure: str, name: str) -> float | None:
        """Over the repetitions; None where there is nothing, or one of them failed."""
        return middle(self.values(peer, [measure], name))

    def values(self, peer: str, measures: Iterable[str], name: str) -> list[float]:
        repetitions = [one for measure in measures for one in self.measured.get(peer, {}).get(measure, [])]
        return [] if any("error" in one for one in repetitions) else [one[name] for one in repetitions if name in one]

    def errors(self) -> Iterator[tuple[str, str, str]]:
        for peer, measures in self.measured.items():
            for measure, repetitions in measures.items():
                yield from ((peer, measure, one["error"]) for one in repetitions if "error" in one)

    def repetitions(self, peer: str) -> int:
        return max(map(len, self.measured.get(peer, {}).values()), default=0)


def middle(values: list[float]) -> float | None:
    return median(values) if values else None


def _short(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
