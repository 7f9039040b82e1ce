"""Sets of minutes, and how many there are of something in each minute, as whole numbers whose bits are minutes.

A month is 43,200 bits. To lay one job's minutes over those of 10,000 others takes some microseconds, whether it fires
30 times or 43,200 times: counts are kept as planes, bit i of plane k being bit k of minute i's count, and are added as
hardware adds, with a carry, for all minutes at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Span:
    """Later than `now`, earlier than `end`. Minute 0 is the one that `now` lies in."""

    now: datetime
    minutes: int

    @cached_property
    def start(self) -> datetime:
        return self.now.replace(second=0, microsecond=0)

    @cached_property
    def end(self) -> datetime:
        return self.start + self.minutes * MINUTE

    def minute(self, instant: datetime) -> int:
        return (instant - self.start) // MINUTE

    def at(self, minute: int) -> datetime:
        return self.start + minute * MINUTE

    @cached_property
    def whole(self) -> int:
        """All of its minutes."""
        return (1 << self.minutes) - 1


class Tally:
    """A count for each minute."""

    def __init__(self) -> None:
        self.planes: list[int] = []

    def add(self, minutes: int, times: int = 1) -> None:
        """One more, or so many, in each minute of the set."""
        place = 0
        while times:
            if times & 1:
                self._carry(minutes, place)
            times >>= 1
            place += 1

    def add_all(self, other: Tally, *, later: int = 0) -> None:
        """What another has, so many minutes later."""
        for place, plane in enumerate(other.planes):
            self._carry(plane << later, place)

    def cut(self, minutes: int) -> None:
        """Keeps these minutes only."""
        self.planes = [plane & minutes for plane in self.planes]

    def at(self, minute: int) -> int:
        return sum((plane >> minute & 1) << place for place, plane in enumerate(self.planes))

    def total(self) -> int:
        return sum(plane.bit_count() << place for place, plane in enumerate(self.planes))

    def most(self, among: int) -> tuple[int, int]:
        """The greatest count in this set of minutes, and the first minute that has it."""
        count = 0
        for place in reversed(range(len(self.planes))):
            higher = among & self.planes[place]
            if higher:
                among, count = higher, count | 1 << place
        return count, (among & -among).bit_length() - 1

    def above(self, limit: int) -> int:
        """The minutes with a greater count."""
        greater, equal = 0, self.marks()
        for place in reversed(range(max(len(self.planes), limit.bit_length()))):
            plane = self.planes[place] if place < len(self.planes) else 0
            if limit >> place & 1:
                equal &= plane
            else:
                greater |= equal & plane
                equal &= ~plane
        return greater

    def marks(self) -> int:
        """The minutes that have any."""
        any_of_them = 0
        for plane in self.planes:
            any_of_them |= plane
        return any_of_them

    def counts(self, length: int) -> list[int]:
        """Of the first `length` minutes, each."""
        texts = [f"{plane:0{length}b}" for plane in reversed(self.planes)]
        return [int("".join(digits), 2) for digits in zip(*texts, strict=True)][::-1] if texts else [0] * length

    def _carry(self, bits: int, place: int) -> None:
        while bits:
            while place >= len(self.planes):
                self.planes.append(0)
            plane = self.planes[place]
            self.planes[place] = plane ^ bits
            bits &= plane
            place += 1


def set_of(minutes: Iterable[int], length: int) -> int:
    """The set of these minutes, each below `length`."""
    bits = bytearray(length // 8 + 1)
    for minute in minutes:
        bits[minute >> 3] |= 1 << (minute & 7)
    return int.from_bytes(bits, "little")


def planes_of(counts: Mapping[int, int], length: int) -> list[int]:
    """Of a count for some minutes, each below `length`, the planes of a tally."""
    most = max(counts.values(), default=0)
    return [
        set_of((minute for minute, count in counts.items() if count >> place & 1), length)
        for place in range(most.bit_length())
    ]


def each(minutes: int) -> Iterator[int]:
    """The minutes of a set, the first first."""
    text = f"{minutes:b}"[::-1]
    place = text.find("1")
    while place >= 0:
        yield place
        place = text.find("1", place + 1)


def spread(minutes: int, reach: int) -> int:
    """With the `reach` minutes after each."""
    done = 0
    while done < reach:
        step = min(done + 1, reach - done)
        minutes |= minutes << step
        done += step
    return minutes


def repeated(minutes: int, cycle: int, length: int) -> int:
    """The set again after each `cycle` minutes, until minute `length`."""
    while cycle < length:
        minutes |= minutes << cycle
        cycle *= 2
    return minutes & ((1 << length) - 1)
