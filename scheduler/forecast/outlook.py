"""What all jobs make together: fires per minute, the peaks, runs that meet the next fire, queues that will be full."""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from scheduler.forecast.minutes import Span, Tally, spread
from scheduler.forecast.prospect import Prospect, Quiet
from scheduler.forecast.series import Series

Row = dict[str, Any]
NAMED = 5
"""Jobs that are named of those that make a peak."""
LISTED = 100
"""Jobs with overlaps, and queues beyond their capacity, that are listed; those with the most of it."""


@dataclass(frozen=True, slots=True)
class Lane:
    """What may run at a time: the slots of the living workers that serve a queue, and what its limits let start."""

    slots: int
    limit: int | None
    rate: float | None

    @property
    def capacity(self) -> int:
        return self.slots if self.limit is None else min(self.slots, self.limit)


def outlook(found: Sequence[Prospect], span: Span, workers: Sequence[Row], *, peaks: int) -> Row:
    """One JSON document. `per_minute` has a count for each minute from `start` on."""
    total = Tally()
    for one in found:
        _count(total, one)
    quiet = Counter(one.quiet for one in found if one.quiet)
    awake = [one for one in found if one.quiet is None]
    overlaps = sorted(filter(None, map(_overlap, awake)), key=lambda row: (-row["overlapping"], row["app"], row["job"]))
    exceeded, together = _occupied(awake, span, workers)
    apps: Counter[str] = Counter()
    for one in found:
        apps[one.row["app"]] += one.fires
    return {
        "now": span.now,
        "start": span.start,
        "end": span.end,
        "fires": total.total(),
        "jobs": {"firing": sum(one.fires > 0 for one in awake)} | {_key(why): quiet[why] for why in _QUIET},
        "late": sum(len(one.late) for one in found),
        "estimated": sum(one.is_estimated for one in awake),
        "unjittered": sum(one.is_unjittered for one in awake),
        "without_history": sum(one.median is None and one.fires > 0 for one in awake),
        "apps": [{"app": app, "fires": fires} for app, fires in sorted(apps.items())],
        "peaks": list(_peaks(total, span, awake, peaks)),
        "overlapping_jobs": len(overlaps),
        "overlaps": overlaps[:LISTED],
        "together": together,
        "exceeded_queues": len(exceeded),
        "exceeded": exceeded[:LISTED],
        "invalid": [{"app": one.row["app"], "job": one.row["name"], "error": one.error} for one in found if one.error][
            :LISTED
        ],
        "per_minute": total.counts(span.minutes),
    }


_QUIET: tuple[Quiet, ...] = ("paused", "on demand", "invalid", "over")


def _key(why: str) -> str:
    return why.replace(" ", "_")


def _count(tally: Tally, one: Prospect) -> None:
    if one.series:
        tally.add_all(one.series.counts)
    if one.late:
        tally.add(1, len(one.late))


def _peaks(total: Tally, span: Span, found: Sequence[Prospect], count: int) -> Iterable[Row]:
    among = total.marks()
    while among and count:
        fires, minute = total.most(among)
        among &= ~(1 << minute)
        count -= 1
        making = [(one.at(minute), one) for one in found]
        making = [(share, one) for share, one in making if share]
        largest = heapq.nsmallest(NAMED, making, key=lambda each: (-each[0], each[1].row["app"], each[1].row["name"]))
        yield {
            "minute": span.at(minute),
            "fires": fires,
            "jobs": len(making),
            "largest": [
                {"app": one.row["app"], "job": one.row["name"], "fires": share, "estimated": one.is_estimated}
                for share, one in largest
            ],
        }


def _overlap(one: Prospect) -> Row | None:
    """Of @after there is none: it waits for the end. Past the p95 one in twenty is expected to end."""
    if one.series is None or one.is_estimated or one.median is None or one.p95 is None:
        return None
    often, seldom = one.series.overlapping(one.median), one.series.overlapping(one.p95)
    if not seldom:
        return None
    return {
        "app": one.row["app"],
        "job": one.row["name"],
        "schedule": one.row["schedule"],
        "overlap": one.row["overlap"],
        "fires": one.fires,
        "overlapping": often,
        "overlapping_at_p95": seldom,
        "median": one.median,
        "p95": one.p95,
    }


def _occupied(found: Sequence[Prospect], span: Span, workers: Sequence[Row]) -> tuple[list[Row], Row]:
    """Queues with more expected at a time than may run, those with the most minutes of it first; and all together."""
    queues: defaultdict[tuple[str, str], list[Prospect]] = defaultdict(list)
    for one in found:
        if one.row["executor"] != "event" and one.fires:  # events are for clients: no worker takes them
            queues[one.row["app"], one.row["queue"]].append(one)
    all_of_them = Tally()
    rows: list[Row] = []
    for (app, queue), ones in queues.items():
        busy = Tally()
        for one in ones:
            _occupy(busy, one)
        busy.cut(span.whole)
        all_of_them.add_all(busy)
        row = _exceeded(busy, _lane(app, queue, ones, workers), ones, span)
        if row is not None:
            rows.append({"app": app, "queue": queue} | row)
    rows.sort(key=lambda row: (-row["minutes"], -row["most"], row["app"], row["queue"]))
    slots = sum(worker["concurrency"] for worker in workers)
    return rows, {"slots": slots, "minutes": all_of_them.above(slots).bit_count()} | _most(all_of_them, span)


def _exceeded(busy: Tally, lane: Lane, ones: Sequence[Prospect], span: Span) -> Row | None:
    over = busy.above(lane.capacity)
    if lane.rate is not None:
        fires = Tally()
        for one in ones:
            _count(fires, one)
        over |= fires.above(math.floor(lane.rate))
    if not over:
        return None
    return {
        "slots": lane.slots,
        "concurrency_limit": lane.limit,
        "rate_per_minute": lane.rate,
        "minutes": over.bit_count(),
        "first_at": span.at((over & -over).bit_length() - 1),
    } | _most(busy, span)


def _most(busy: Tally, span: Span) -> Row:
    most, at = busy.most(busy.marks())
    return {"most": most, "most_at": span.at(at) if most else None}


def _lane(app: str, queue: str, ones: Sequence[Prospect], workers: Sequence[Row]) -> Lane:
    executors = {one.row["executor"] for one in ones}  # "": a job that is only supposed, of whatever executor
    row = ones[0].row
    slots = sum(
        worker["concurrency"]
        for worker in workers
        if (worker["apps"] is None or app in worker["apps"])
        and (worker["queues"] is None or queue in worker["queues"])
        and ("" in executors or executors.intersection(worker["executors"]))
    )
    rate = None
    if row["rate_limit"] is not None:
        # A full bucket may be emptied within a minute, and is filled again as often as its interval goes into one.
        rate = row["rate_limit"] * max(1.0, 60 / (row["rate_interval"] or math.inf))
    return Lane(slots, row["concurrency_limit"], rate)


def _occupy(busy: Tally, one: Prospect) -> None:
    """Adds the minutes in which its runs are expected to run, for as long as half of them take."""
    if one.late:
        side_by_side = len(one.late) if one.row["overlap"] == "allow" else 1
        busy.add(spread(1, _reach(0, one.median)), side_by_side)
    if one.series is None:
        return
    series, took = one.series, one.median or 0.0
    reach = _reach(series.second, took)
    if one.row["overlap"] != "allow" or one.is_estimated:
        busy.add(spread(series.marks, reach))
    elif reach:
        for later in range(reach + 1):
            busy.add_all(series.counts, later=later)
    else:
        busy.add(series.marks, _side_by_side(series, took))


def _reach(second: int, took: float | None) -> int:
    """Minutes after its own in which a run still runs that starts at this second."""
    return max(0, math.ceil((second + (took or 0.0)) / 60) - 1)


def _side_by_side(series: Series, took: float) -> int:
    return max(1, math.ceil(took / series.closest))
