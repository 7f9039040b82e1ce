"""What the planner will do in the coming hours or days, and what it will come to: `scheduler forecast`, and over HTTP.

    gathered ─▶ Prospects ─▶ outlook          changed ─▶ the same once more
    rows        a series     one document     --if
                for each job

gathered    what is read: jobs with their durations, and who is there to run them
change      a schedule that is only supposed
prospect    one job: its instants as the planner will find them
series      the instants of one schedule, laid down a day at a time
minutes     sets of minutes, and counts for each minute, as whole numbers
outlook     all jobs together: peaks, overlaps, capacity
apart       computed in a process of its own, for a server that has other things to do
chart       the fires per minute as a picture
"""

from scheduler.forecast.change import Change, changed, ensure_known
from scheduler.forecast.gathered import Gathered, gather
from scheduler.forecast.outlook import NAMED
from scheduler.forecast.whole import forecast

__all__ = ["NAMED", "Change", "Gathered", "changed", "ensure_known", "forecast", "gather"]
