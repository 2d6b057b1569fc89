"""How this process is named among the clients of PostgreSQL (`application_name`), so that others can count the servers."""

import os
import socket
from typing import Any, Final

SERVER: Final = " server [0-9]+@"
"""A regular expression of PostgreSQL for the names of processes that serve. All connections of one process have one name."""

_MAX_BASE: Final = 20
_MAX_HOST: Final = 24  # its end: names of pods differ there. PostgreSQL cuts a longer name off at 63 bytes.

_state: Final = {"serves": False}


def this_process_serves() -> None:
    """Name new connections of this process as those of a server. Other processes run a command."""
    _state["serves"] = True


def application_name(base: Any) -> str:
    """Return the name for a connection; `base` is the one of DATABASE_URL, or None."""
    name = str(base or "skyauth")
    return f"{name[:_MAX_BASE]} server {os.getpid()}@{socket.gethostname()[-_MAX_HOST:]}" if _state["serves"] else name
