"""The file of an SQLite database, which can be replaced under a running process: by a restore, or by hand."""

import sqlite3
import threading
from pathlib import Path
from typing import Final

Identity = tuple[int, int]

_lock: Final = threading.Lock()
_logs: Final[dict[Path, tuple[Identity, Identity | None]]] = {}  # of each path: the file opened last, and its write-ahead log


def identity(path: Path) -> Identity | None:
    """Return the device and inode of the file that the path leads to now, or None."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _has_log(path: Path, log: Identity) -> bool:
    """Return whether this write-ahead log is beside the file, and not empty."""
    try:
        status = _log_of(path).stat()
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == log and status.st_size > 0


def check(path: Path) -> Identity | None:
    """Return the identity of the file that can be opened at this path, or None if there is none yet.

    Raises sqlite3.OperationalError if the file is gone, or if it was replaced and the write-ahead log of the old file is still
    beside it: SQLite would write that log into the new file.
    """
    file = identity(path)
    with _lock:
        opened = _logs.get(path)
    if opened is not None and file is None:
        raise sqlite3.OperationalError("The database file is gone.")
    if opened is not None and file != opened[0] and opened[1] is not None and _has_log(path, opened[1]):
        raise sqlite3.OperationalError("The database file was replaced. Stop SkyAuth, then restore the backup.")
    return file


def opened(path: Path, file: Identity | None) -> Identity | None:
    """Note that a connection to the file was opened, and return its identity, or None if it was replaced meanwhile."""
    if file is None or identity(path) != file:
        return None
    with _lock:
        _logs[path] = file, identity(_log_of(path))
    return file
