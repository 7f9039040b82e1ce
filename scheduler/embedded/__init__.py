"""The PostgreSQL that comes along: the same engine as in production, with nothing to set up.

    with Embedded(default_data_dir()) as server:
        connect(server.dsn)

All processes of one Unix user share one server per data directory. It listens on a Unix socket in a private directory
only, and knows its users by the kernel's word (peer authentication), so there is no password anywhere.
"""

from scheduler.embedded.binaries import Binaries, find_binaries
from scheduler.embedded.place import default_data_dir
from scheduler.embedded.server import Embedded

__all__ = ["Binaries", "Embedded", "default_data_dir", "find_binaries"]
