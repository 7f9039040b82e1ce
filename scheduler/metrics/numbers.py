"""Numbers that grow while a process works, and how their labels are kept from growing without end."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

from scheduler.metrics.catalogue import Family

OTHER = "other"
"""The name under which all is counted that has no series of its own."""
APPS = 40
"""Apps that a server has series of their own for."""

Key = TypeVar("Key")


class Buckets(NamedTuple):
    """A histogram at a moment: how many values were in each bucket and none before, and the sum of all."""

    counts: tuple[int, ...]
    sum: float


class Sample(NamedTuple):
    family: Family
    labels: tuple[str, ...]
    value: float | Buckets


class Histogram:
    """Classic buckets; the last one has no upper bound."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_all(self, values: list[float]) -> None:
        """Many at once, for 0.03 us each where they are close together or in order; the list is sorted by it.

        One by one they cost 0.15 us, and a worker ends 80,000 runs a second.
        """
        least, most = min(values), max(values)
        if least < 0.0:  # two clocks differ by a little; a sum may not shrink
            values = [max(0.0, value) for value in values]
            least, most = max(0.0, least), max(0.0, most)
        first, last = bisect_left(self._bounds, least), bisect_left(self._bounds, most)
        self._sum += sum(values)
        place = 0
        if first != last:
            values.sort()
            for bucket in range(first, last):
                end = bisect_right(values, self._bounds[bucket], place)
                self._counts[bucket] += end - place
                place = end
        self._counts[last] += len(values) - place

    @property
    def buckets(self) -> Buckets:
        return Buckets(tuple(self._counts), self._sum)


class Folded(Generic[Key]):
    """Gives the first `most` keys that come a series of their own, and says `fold` of the rest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._own: set[Key] = set()

    @property
    def keys(self) -> frozenset[Key]:
        return frozenset(self._own)

    def has(self, key: Key) -> bool:
        if key in self._own:
            return True
        if len(self._own) >= self._most:
            return False
        self._own.add(key)
        return True


class Tally:
    """Counters of the parts of a server, whose first label, if there is any, is an app; and how long planning takes.

    Once in a step, not once in a run, so there is no need to be quick.
    """

    def __init__(self, most: int = APPS) -> None:
        self.apps: Folded[str] = Folded(most)
        self._counts: dict[tuple[Family, tuple[str, ...]], float] = {}
        self._histograms: dict[Family, Histogram] = {}

    def count(self, family: Family, *labels: str, number: float = 1) -> None:
        if labels and not self.apps.has(labels[0]):
            labels = (OTHER, *labels[1:])
        key = (family, labels)
        self._counts[key] = self._counts.get(key, 0) + number

    def observe(self, family: Family, value: float) -> None:
        """Of a histogram without labels."""
        self._histograms.setdefault(family, Histogram(family.bounds)).add(value)

    def samples(self) -> Iterator[Sample]:
        for (family, labels), number in self._counts.items():
            yield Sample(family, labels, number)
        for family, histogram in self._histograms.items():
            yield Sample(family, (), histogram.buckets)


def folded(values: Mapping[str, float], apps: Folded[str]) -> dict[str, float]:
    """By app, with those that have no series of their own added up."""
    found: dict[str, float] = {}
    for app, value in sorted(values.items(), key=_greatest_first):
        name = app if apps.has(app) else OTHER
        found[name] = found.get(name, 0) + value
    return found


def _greatest_first(one: tuple[str, float]) -> tuple[float, str]:
    return -one[1], one[0]
