"""All that a module with tasks imports: `from worker import task, Context, Retry, Cancel`.

Light on purpose: neither a database driver nor an HTTP client is loaded, so a web application can share its tasks.
"""

from worker.context import Context
from worker.outcome import Cancel, Retry
from worker.registry import task

__all__ = ["Cancel", "Context", "Retry", "task"]
