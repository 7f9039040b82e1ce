"""How much is done, to how many, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.verify.kinds import KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    seconds: float = 30.0
    """Of faults. A sixth of it, 3 to 60 s, goes before without any, to compare with."""
    seed: int = 0
    rate: int = 200
    """Runs that are enqueued per second."""
    jobs: int = 20
    """Recurring jobs, each with a period of 2 to 10 s."""
    servers: int = 2
    workers: int = 2
    concurrency: int = 100
    """Runs at a time in a worker."""
    faults: tuple[str, ...] = tuple(KINDS)
    every: tuple[float, float] = (1.0, 3.0)
    """Seconds from one fault to the next: at least, at most."""
    late: float = 30.0
    """Seconds after its instant by which a run must have started."""
    patience: float = 60.0
    """Seconds without any progress, at the end, after which what is open counts as lost: long enough for a reclaim."""

    @property
    def clean(self) -> float:
        """Seconds before the first fault; the last part, that is compared with it, is as long."""
        return min(60.0, max(3.0, self.seconds / 6))
