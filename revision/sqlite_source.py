"""Reads the policy revision from an SQLite file, without blocking the event loop."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from revision.triggers import READ

Callback = Callable[[str | None], None]

_TIMEOUT_SECONDS: Final = 1.0  # then the request takes the slow path, which has a time-out of its own
_HEADER_BYTES: Final = 48  # of one of the two copies


class SqliteSource:
    """Reads from a file: after a commit with SQLite in a thread, else only the header of the write-ahead log's index.

    While another process holds the locks of SQLite's readers, SQLite waits for up to ten seconds, whatever its time-out is. The
    event loop must not wait with it. Every commit changes the header, by which SQLite's own readers decide whether their cached
    pages are valid (https://www.sqlite.org/walformat.html#walidxfmt). While the header is that of the last read, so is the
    revision.

    A file that replaced the open one gives None, because other connections can still read the old one.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="revision")
        self._connection: sqlite3.Connection | None = None  # of the thread
        self._index: int | None = None
        self._file: tuple[int, int] | None = None
        self._known: tuple[bytes, str] | None = None  # a header, and the revision under it
        self._reading = False
        self._callback: Callback | None = None
        self._timeout: asyncio.TimerHandle | None = None

    def begin(self, callback: Callback) -> None:
        if self._known is not None and self._known[0] == self._header() and self._is_open_file():
            callback(self._known[1])
        elif self._reading:
            callback(None)  # the thread is still busy with a read that timed out
        else:
            loop = asyncio.get_running_loop()
            self._callback, self._reading = callback, True
            self._timeout = loop.call_later(_TIMEOUT_SECONDS, self._finish, None)
            loop.run_in_executor(self._thread, self._read).add_done_callback(self._done)

    def _read(self) -> tuple[str | None, bytes]:
        """Return the revision, or None, and the header under which it was read, or b"". Runs in the thread."""
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
            before = self._header()
            row = self._connection.execute(READ).fetchone()
        except (sqlite3.Error, OSError):
            self._disconnect()
            return None, b""
        if self._index is None:
            self._index = _open_index(self._path.with_name(f"{self._path.name}-shm"))
        revision = row[0] if row and self._is_open_file() else None
        return revision, before if before == self._header() else b""

    def _done(self, future: "asyncio.Future[tuple[str | None, bytes]]") -> None:
        revision, header = (None, b"") if future.cancelled() or future.exception() else future.result()
        self._known = (header, revision) if header and revision is not None else None
        self._reading = False
        self._finish(revision)

    def _finish(self, revision: str | None) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(revision)

    def _header(self) -> bytes:
        """Return both copies of the header, or b"" where there is none, or one of them is just being written."""
        header = b"" if self._index is None else os.pread(self._index, 2 * _HEADER_BYTES, 0)
        return header if any(header) and header[:_HEADER_BYTES] == header[_HEADER_BYTES:] else b""

    def _is_open_file(self) -> bool:
        """Return whether the path still leads to the file that was read first."""
        try:
            status = self._path.stat()
        except OSError:
            return False
        file = (status.st_dev, status.st_ino)
        self._file = self._file or file
        return file == self._file

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._index = None

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
