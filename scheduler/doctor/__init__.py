"""What is wrong, or will be soon: of the database, its settings, the processes, and what people defined.

examine     makes all checks, each by itself: one that fails is a finding
finding     what was found, with its remedy
report      the checks in their order

schema      is it this program's           clocks      this machine's and the database's
vacuum      autovacuum, dead rows          snapshots   who holds the oldest
wal         slots, archiving, notify queue settings    of PostgreSQL, connections
partitions  of the coming days, orphans    processes   servers, workers, listeners
definitions invalid, never succeeding      work        due, and nobody there for it
tokens      that expire soon

Everything is read only, on one connection whose statements are short, and by keys: it costs a second at a million rows.
"""

from scheduler.doctor.examine import Report, examine, examine_at
from scheduler.doctor.finding import Finding, Limits

__all__ = ["Finding", "Limits", "Report", "examine", "examine_at"]
