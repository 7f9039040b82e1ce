"""A verdict for people: what was done, what came of it, and what does not fit."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scheduler.verify.findings import KINDS, Verdict

Row = tuple[str, str]


def document(verdict: Verdict, options: dict[str, Any]) -> dict[str, Any]:
    """The verdict as JSON. Its names do not change."""
    return {
        "passed": verdict.passed,
        "options": options,
        "figures": verdict.figures,
        "found": [
            {"kind": kind, "count": verdict.found[kind], "meaning": KINDS[kind], "examples": verdict.examples[kind]}
            for kind in KINDS
            if verdict.found[kind]
        ],
    }


def show(verdict: Verdict, seed: int, console: Console) -> None:
    """Print it."""
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    for name, value in _rows(verdict.figures):
        table.add_row(name, value)
    console.print(table)
    for kind, meaning in KINDS.items():
        if verdict.found[kind]:
            console.print(Text(f"{kind}: {verdict.found[kind]}, {meaning}", style="red"))
            for example in verdict.examples[kind]:
                console.print(Text(f"  {example}"))
    if verdict.passed:
        console.print(Text("passed: nothing was lost, doubled, late or accepted from the dead", style="green"))
    else:
        console.print(Text(f"failed; --seed {seed} repeats what was done", style="red"))


def _rows(figures: dict[str, Any]) -> list[Row]:
    enqueued, fires, throughput = figures["enqueued"], figures["fires"], figures["throughput"]
    return [
        ("faults", ", ".join(f"{count} {kind}" for kind, count in figures["faults"].items()) or "none"),
        ("enqueued", f"{enqueued['acknowledged']:,} acknowledged, {enqueued['answer_lost']:,} whose answer was lost"),
        ("executed", f"{figures['executed']:,} runs"),
        (
            "re-runs",
            f"{figures['re_runs']:,} of {figures['in_flight_at_kills']:,} in flight when their process was hit",
        ),
        ("fires", f"{fires['matched']:,} of {fires['due']:,} due instants, late by {_spread(fires['late_seconds'])}"),
        ("fires broken off before they began", f"{fires['unbegun']:,}"),
        ("lost", f"{figures['lost']:,}"),
        ("doubled", f"{figures['doubled']:,}"),
        ("accepted from the dead", f"{figures['stale']:,}"),
        ("begun by the dead", f"{figures['begun_by_the_dead']:,}"),
        ("at most once, broken off", f"{figures['broken_off']:,}"),
        ("poison", f"{figures['poisoned']:,} put away, and {figures['quarantined']:,} that three kills in a row hit"),
        ("running again after a kill", _spread(figures["again_after_kill_seconds"])),
        ("running again after a restart", _spread(figures["again_after_restart_seconds"])),
        ("throughput", f"{throughput['clean']:,} runs/s without faults, {throughput['last']:,} in the last part"),
    ]


def _spread(values: dict[str, float | None]) -> str:
    if values["max"] is None:
        return "-"
    return ", ".join(f"{name} {value:.3g} s" for name, value in values.items() if value is not None)
