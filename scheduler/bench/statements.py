"""The benchmark's own SQL, `sql/bench/<name>.sql`, read when it is needed."""

from __future__ import annotations

from functools import partial

from scheduler.statements import statement as _statement

statement = partial(_statement, "bench")
