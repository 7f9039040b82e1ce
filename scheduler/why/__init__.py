"""Why a run has not started yet, or how it went: reasons with a code, facts, a sentence and the remedy.

explain   reads what bears on a run, and judges it
waiting   what keeps a run that waits            past      what became of one that was started, and its timeline
answer    a reason, and the words in which it is given

Nothing is guessed: each reason is a fact that was read a moment ago. Several may hold at once; all are given. The reads
are not one snapshot, so an answer about a run that moves meanwhile may have parts from before and after; `explain` then
looks again.
"""

from scheduler.why.answer import Reason
from scheduler.why.explain import Answer, Sight, explain

__all__ = ["Answer", "Reason", "Sight", "explain"]
