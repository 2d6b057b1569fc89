"""The files of an SQLite database, which can be replaced or removed under a running process: by a restore, or by hand."""

import fcntl
import gc
import logging
import os
import sqlite3
import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple
from weakref import WeakSet

File = tuple[int, int]  # device and inode

logger = logging.getLogger("skyauth.database")
_SELDOM: Final = {"seldom": True}


class Identity(NamedTuple):
    """The files of a database, None for one that does not exist: the database, its write-ahead log, and the log's index.

    While a connection is open, SQLite never replaces one of them. All processes exchange commits and locks through the log and
    its index, so a process whose index is not the one at the path no longer sees what the others commit.
    """

    database: File | None
    log: File | None
    log_index: File | None


class Connection(sqlite3.Connection):
    """A connection that this module knows to be open or closed."""

    path: Path | None = None

    def close(self) -> None:
        path, self.path = self.path, None  # once: SQLite removes the log when the last connection is closed
        if path is not None:
            _before_close(path)
        super().close()
        with _lock:
            for opened in _opened.values():
                opened.connections.discard(self)

    def __del__(self) -> None:  # as at the end of its thread
        with suppress(sqlite3.Error):  # it could not be opened
            self.close()


class _Opened(NamedTuple):
    """The files that the first of several connections has opened, and those of the connections that are still open."""

    files: Identity
    connections: "WeakSet[Connection]"


_lock: Final = threading.RLock()  # a connection can be collected, and closed, at any time
_opened: Final[dict[Path, _Opened]] = {}
_names: Final[dict[Path, tuple[str, str, str]]] = {}  # by which the files of a database are looked up


def follow(path: Path, link: Path) -> None:
    """Note that `path` is where `link` leads. Where that is another file later, nothing is read from `path` any more."""
    if link != path:
        _names[path] = (str(link), f"{path}-wal", f"{path}-shm")


def identity(path: Path) -> Identity:
    """Return the files to which the path, or the link that led to it, leads now."""
    names = _names.get(path)
    if names is None:
        names = _names[path] = (str(path), f"{path}-wal", f"{path}-shm")
    return Identity(_file(names[0]), _file(names[1]), _file(names[2]))


def _file(name: str) -> File | None:
    try:
        status = os.stat(name)  # noqa: PTH116 - before each cached answer, and Path takes twice as long
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _has_content(name: str) -> bool:
    with suppress(OSError):
        return os.stat(name).st_size > 0  # noqa: PTH116 - as above
    return False


def check(path: Path) -> Identity:
    """Return the files that can be opened at this path, which need not exist yet.

    Raises sqlite3.OperationalError in four cases. The database is gone. Or a link leads to another one: a process cannot tell
    whether that is for itself. Or it was replaced, and the write-ahead log of the old one is still beside it: SQLite would write
    that log into the new one. Or the log or its index was removed, and connections to the old one are open: SQLite would let a
    new connection of this process share it, and a new log beside the index of another process would lack what is in the old one.
    """
    with _lock:
        files, opened = identity(path), _opened.get(path)
    if opened is None:
        return files
    used = opened.files
    if files.database is None:
        raise _refused("The database file is gone.")
    if _names[path][0] != str(path) and _file(str(path)) != files.database:
        raise _refused("The path of the database leads to another file than before. Restart SkyAuth.")
    if files.database != used.database:
        if used.log is not None and files.log == used.log and _has_content(f"{path}-wal"):
            raise _refused("The database file was replaced. Stop SkyAuth, then restore the backup.")
    elif (name := _changed_journal(path, files, used)) and (_in_use(opened) or _has_index_alone(files, used)):
        raise _refused(f"The file {name} was removed or replaced while SkyAuth used it.")
    return files


def _in_use(opened: _Opened) -> bool:
    """Return whether connections are open. Those of threads that have ended are in reference cycles until they are collected."""
    if opened.connections:
        gc.collect()
    return len(opened.connections) > 0


def _has_index_alone(files: Identity, used: Identity) -> bool:
    """Return whether another process still has the removed log open. The last one that closes it removes the index, too."""
    return files.log is None and files.log_index == used.log_index


def _refused(text: str) -> sqlite3.OperationalError:
    logger.error("%s", text, extra=_SELDOM)
    return sqlite3.OperationalError(text)


def opened(path: Path, files: Identity, connection: Connection) -> Identity | None:
    """Note that a connection was opened, and return its files, or None if the database was replaced meanwhile."""
    with _lock:
        now, others = identity(path), _opened.get(path)
        if now.database is None or now.database != files.database:
            return None
        if others is None or not others.connections or others.files.log is None or others.files.database != now.database:
            others = _opened[path] = _Opened(now, WeakSet())
        connection.path = path
        others.connections.add(connection)
        _unlock(now.database)
        return others.files


def _changed_journal(path: Path, files: Identity, used: Identity) -> str:
    """Return which file beside the database is not the one that is used, or ""."""
    if files.database != used.database or used.log is None or files == used:
        return ""
    return f"{path.name}-{'shm' if files.log == used.log else 'wal'}"


# The last connection to a database writes the log into the database, and removes it. With an index of its own, it does not know
# what others have committed in the log since. It does neither while another owner has the lock of SQLite's readers, such as an
# open file description (https://www.sqlite.org/lockingv3.html). That stays open, or all locks of this process would be released.
_READERS_BYTES: Final = (0x4000_0002, 510)  # the first, and how many
_guards: Final[dict[File, int]] = {}


def _before_close(path: Path) -> None:
    """Keep a connection whose log or index was removed or replaced from removing the log that is at its path now."""
    with _lock:
        files, opened = identity(path), _opened.get(path)
        if opened is None or files.database is None or not (name := _changed_journal(path, files, opened.files)):
            return
        if files.log is not None:
            with suppress(OSError):
                if files.database not in _guards:
                    _guards[files.database] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                _lock_bytes(_guards[files.database], fcntl.F_RDLCK)
    logger.error(
        "The file %s was removed or replaced while SkyAuth used it. SkyAuth opens the database again.", name, extra=_SELDOM
    )


def _unlock(database: File) -> None:
    """Release the lock when a new connection has one of its own."""
    if database in _guards:
        with suppress(OSError):
            _lock_bytes(_guards[database], fcntl.F_UNLCK)


def _lock_bytes(descriptor: int, kind: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, *_READERS_BYTES, 0))
