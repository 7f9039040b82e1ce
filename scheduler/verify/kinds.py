"""The faults by name."""

KINDS = {
    "kill": "a server or worker is killed (SIGKILL)",
    "pause": "a server or worker stands still (SIGSTOP) for longer than the dead time, and goes on",
    "terminate": "one of their database connections is ended",
    "notify": "all connections that listen are ended: notifications are lost",
    "restart": "PostgreSQL is restarted, or crashes",
    "snapshot": "a transaction keeps an old snapshot open",
    "clock": "wall clocks are up to five minutes off, and one steps by an hour",
    "poison": "a run kills the process that executes it",
    "straggler": "a worker that was declared dead reports, begins and releases what others took over",
    "replan": "jobs are planned anew from an earlier instant, as after a clock that was set back",
}
NEEDS_OWN_SERVER = ("restart",)
"""Not done to a PostgreSQL that others use."""
EXPLAINS_ANY_LOSS = ("terminate", "notify", "restart")
"""After these any worker may have been unable to say that it lives; the others are about one process."""
