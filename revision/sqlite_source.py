"""Reads the policy revision from an SQLite file, without blocking the event loop."""

import asyncio
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from core import sqlite_file
from revision.epoch import MAX_CHANGES, Callback, Epoch, Follower, LoggedChange, PendingRead, Position
from revision.trigger_sql import LOG, TABLE
from revision.triggers import INSTALLED, lacking, read_installed

_HEADER_BYTES: Final = 48  # of one of the two copies
_READ: Final = f"SELECT number, mark FROM {TABLE} WHERE id = 1"  # noqa: S608 - constants only # nosec B608
_CHANGES: Final = (
    f"SELECT number, previous, value, kind, key FROM {LOG} WHERE number > ? ORDER BY number, position LIMIT {MAX_CHANGES}"  # noqa: S608 # nosec B608
)


class _Read(NamedTuple):
    """What one read found, in one snapshot, and the header under which it was made, or b"".

    `connection` counts the connections: another one can be to another file. With another `schema`, a trigger can have been
    missing meanwhile.
    """

    now: Position
    changes: list[LoggedChange]
    connection: int
    schema: int | None
    header: bytes


class SqliteSource:
    """Reads from a file: after a commit with SQLite in a thread, else only the header of the write-ahead log's index.

    While another process holds the locks of SQLite's readers, SQLite waits for up to ten seconds, whatever its time-out is. The
    event loop must not wait with it. Every commit changes the header, by which SQLite's own readers decide whether their cached
    pages are valid (https://www.sqlite.org/walformat.html#walidxfmt). While the header is that of the last read, so is the
    revision.

    A file that replaced the open one is opened, and begins a new epoch. The read that finds it gives None. So does every read
    while the log or its index is not the one that was opened (`core.sqlite_file`).
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path).absolute()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="revision")
        self._follower = Follower()
        self._unchanged: tuple[bytes, Epoch] | None = None  # a header, and the epoch under it
        self._reading = False
        self._pending = PendingRead()
        # Of the thread:
        self._connection: sqlite3.Connection | None = None
        self._connections = 0
        self._schema: int | None = None  # the version of the schema whose triggers were checked
        self._index: int | None = None
        self._files: sqlite_file.Identity | None = None

    def begin(self, callback: Callback) -> None:
        if self._unchanged is not None and self._unchanged[0] == self._header() and self._has_open_files():
            callback(self._unchanged[1])
        elif self._reading:
            callback(None)  # the thread is still busy with a read that timed out
        else:
            loop = asyncio.get_running_loop()
            self._reading = True
            self._pending.begin(callback, lambda: self._pending.finish(None))
            loop.run_in_executor(self._thread, self._read, self._follower.known).add_done_callback(self._done)

    def _read(self, known: Position | None) -> _Read | None:
        """Return what a read finds, or None. Runs in the thread."""
        try:
            connection = self._connect()
            before = self._header()
            connection.execute("BEGIN")
            found = self._read_in_transaction(connection, known) if self._has_triggers(connection) else None
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError):
            self._disconnect()
            return None
        if not self._has_open_files():
            self._disconnect()
            return None
        if self._index is None:
            self._index = _open_index(self._path.with_name(f"{self._path.name}-shm"))
        header = before if before == self._header() else b""
        return None if found is None else _Read(*found, self._connections, self._schema, header)

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            files = sqlite_file.check(self._path)
            where = f"{self._path.as_uri()}?mode=rw"  # a file that does not exist is not created
            self._connection = sqlite3.connect(
                where, uri=True, timeout=0, isolation_level=None, check_same_thread=False, factory=sqlite_file.Connection
            )
            self._connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # opens the file
            self._connections += 1
            self._files = sqlite_file.opened(self._path, files, self._connection)
        return self._connection

    def _read_in_transaction(
        self, connection: sqlite3.Connection, known: Position | None
    ) -> tuple[Position, list[LoggedChange]] | None:
        row = connection.execute(_READ).fetchone()
        if row is None:
            return None
        now = Position(*row)
        if known is None or now == known:
            return now, []
        return now, [LoggedChange(*row) for row in connection.execute(_CHANGES, [known.number])]

    def _has_triggers(self, connection: sqlite3.Connection) -> bool:
        """Return whether all triggers are installed. Every change of the schema is a new version of it."""
        version = connection.execute("PRAGMA schema_version").fetchone()[0]
        if version != self._schema:
            found = read_installed("sqlite", connection.execute(INSTALLED["sqlite"]).fetchall(), None)
            self._schema = None if lacking("sqlite", found) else version
        return self._schema is not None

    def _done(self, future: "asyncio.Future[_Read | None]") -> None:
        read = None if future.cancelled() or future.exception() else future.result()
        self._reading, self._unchanged, epoch = False, None, None
        if read is not None:
            epoch = self._follower.follow(read.now, read.changes, (read.connection, read.schema))
            self._unchanged = (read.header, epoch) if read.header else None
        self._pending.finish(epoch)

    def _header(self) -> bytes:
        """Return both copies of the header, or b"" where there is none, or one of them is just being written."""
        index = self._index  # the thread can close it
        header = b"" if index is None else os.pread(index, 2 * _HEADER_BYTES, 0)
        return header if any(header) and header[:_HEADER_BYTES] == header[_HEADER_BYTES:] else b""

    def _has_open_files(self) -> bool:
        """Return whether the path still leads to the open files, whose inodes nothing else can get meanwhile."""
        return self._files is not None and sqlite_file.identity(self._path) == self._files

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._index = self._files = self._schema = None

    def close(self) -> None:
        self._thread.submit(self._disconnect)
        self._thread.shutdown()


# The descriptors of indexes, by device and inode. To close one would release all locks that SQLite's connections in this process
# hold on the file (POSIX advisory locks), so it stays open until the file is deleted.
_indexes: Final[dict[tuple[int, int], int]] = {}


def _open_index(path: Path) -> int | None:
    """Return a descriptor of the write-ahead log's index, or None where there is none, as in other journal modes."""
    for file, descriptor in list(_indexes.items()):
        if os.fstat(descriptor).st_nlink == 0:
            os.close(_indexes.pop(file))
    try:
        status = path.stat()
        file = (status.st_dev, status.st_ino)
        if file not in _indexes:
            _indexes[file] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    return _indexes[file]
