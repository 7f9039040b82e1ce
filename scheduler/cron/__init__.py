"""Instants of a schedule: pure arithmetic, no database and no clock.

parse(text, zone) ─▶ Schedule ─▶ next(after), between(after, until, limit=…)

schedule     what users hold: one parsed schedule in one zone
expression   five or six fields → the wall-clock times they name (on naive times only)
plain        the next match of plain numbers; what only a calendar can tell is croniter's
fields       one field → the values it allows
wallclock    wall-clock times → instants: zones, gaps, folds
calendar     all times at once: days, minutes of a day, jumps of a zone
duration     1h30m10s → timedelta
"""

from scheduler.cron.duration import parse_duration
from scheduler.cron.schedule import Schedule, parse

__all__ = ["Schedule", "parse", "parse_duration"]
