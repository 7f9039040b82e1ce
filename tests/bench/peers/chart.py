"""The picture for the README: two panels of bars, in colours that read on a white and on a dark page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from tests.bench.peers.catalogue import PEERS, WALCLOCK, Peer
from tests.bench.peers.results import Results

WIDTH, ROW, TOP = 860, 24, 62
NAMES, PANEL, GAP = 176, 290, 60  # pixels: the names, each panel, and between the panels
OURS, OURS_LIGHT, OTHERS, OTHERS_LIGHT, TEXT = "#2f81f7", "#79b8ff", "#8b949e", "#b8bec5", "#7d8590"
FONTS = "-apple-system,'Segoe UI',Helvetica,Arial,sans-serif"
STYLE = f"text{{font-family:{FONTS};font-size:12px;fill:{TEXT}}}.h{{font-weight:600}}"


def chart(results: Results) -> str:
    """An SVG of the job queues: drains by one and two processes, and how late delayed jobs start."""
    peers = [peer for peer in PEERS if peer.name in results.measured and peer.kind == "queue"]
    rates = {peer.name: [results.median(peer.name, f"drain {n}", "rate") for n in (1, 2)] for peer in peers}
    late = {peer.name: results.median(peer.name, "delayed", "p99") for peer in peers}
    peers.sort(key=lambda peer: -max((rate or 0 for rate in rates[peer.name]), default=0))
    most = max(rate or 0 for both in rates.values() for rate in both) or 1
    height = TOP + ROW * len(peers) + 12
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">',
        f"<style>{STYLE}</style>",
        _text(NAMES, 20, "Drain, jobs per second", "h"),
        _text(NAMES, 38, "upper bar one worker process, lower bar two"),
        _text(NAMES + PANEL + GAP, 20, "Delayed jobs, late at p99", "h"),
        _text(NAMES + PANEL + GAP, 38, "logarithmic: shorter is more punctual"),
    ]
    for row, peer in enumerate(peers):
        y = TOP + row * ROW
        lines.append(_text(NAMES - 8, y + 13, peer.title.strip("*"), "h" if peer.name == WALCLOCK else "", "end"))
        lines += _drains(rates[peer.name], most, peer, y)
        lines += _lateness(late[peer.name], peer, y)
    return "\n".join([*lines, "</svg>\n"])


def _drains(rates: list[float | None], most: float, peer: Peer, y: int) -> Iterator[str]:
    colours = (OURS, OURS_LIGHT) if peer.name == WALCLOCK else (OTHERS, OTHERS_LIGHT)
    room = PANEL - 60
    for place, (rate, colour) in enumerate(zip(rates, colours, strict=True)):
        if rate is not None:
            yield _bar(NAMES, y + place * 9, room * rate / most, 8, colour)
    best = max((rate for rate in rates if rate is not None), default=None)
    if best is not None:
        yield _text(NAMES + room * best / most + 6, y + 13, f"{best:,.0f}")


def _lateness(late: float | None, peer: Peer, y: int) -> Iterator[str]:
    x, room = NAMES + PANEL + GAP, PANEL - 60
    if late is None:
        yield _text(x, y + 13, "has no delayed jobs")
        return
    length = room * math.log10(max(late, 0.1) / 0.1) / math.log10(10_000 / 0.1)
    yield _bar(x, y + 2, length, 13, OURS if peer.name == WALCLOCK else OTHERS)
    yield _text(x + length + 6, y + 13, f"{late:,.1f} ms" if late < 100 else f"{late:,.0f} ms")


def _bar(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.0f}" y="{y:.0f}" width="{max(width, 1):.1f}" height="{height}" rx="1" fill="{colour}"/>'


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'
