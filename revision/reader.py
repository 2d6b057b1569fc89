"""Reads the policy revision (`revision.triggers`) in an event loop: one read serves all callers that wait for it.

As in a database's group commit, a caller joins those that wait for the next read, and a read serves only callers that were
waiting when it began. The revision that a caller receives is therefore never older than its call. There is no time-to-live.
"""

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Protocol

import psycopg
from django.conf import settings
from django.db import connection
from psycopg import pq

from core.histogram import LatencyHistogram
from core.postgresql.outage import outage
from revision.triggers import READ

logger = logging.getLogger("skyauth.gateway")

Callback = Callable[[str | None], None]
"""Receives the revision, or None when it could not be read."""

_TIMEOUT_SECONDS: Final = 1.0  # then the request takes the slow path, which has a time-out of its own
_HEADER_BYTES: Final = 48  # of one of the two copies
_RECONNECT_SECONDS: Final = 0.5  # between two attempts to connect


class ReadTimes(LatencyHistogram):
    """How long this process's reads of the revision took, and how many failed."""

    __slots__ = ("failed",)

    def __init__(self) -> None:
        super().__init__()
        self.failed = 0


read_times = ReadTimes()


class RevisionSource(Protocol):
    """Reads the revision from one kind of database, without blocking the event loop."""

    def begin(self, callback: Callback) -> None:
        """Begin a read, which ends with one call of `callback`."""
        ...

    def close(self) -> None: ...


class RevisionReader:
    """Gives the policy revision to any number of callers. None instead of a revision means: do not use the cache."""

    def __init__(self, make_source: Callable[[], RevisionSource] | None = None) -> None:
        self._make_source = make_source or _source
        self._source: RevisionSource | None = None
        self._waiting: list[Callback] = []
        self._reading: list[Callback] = []  # the callers of the read that is running
        self._started = 0.0

    def read(self, callback: Callback) -> None:
        """Call `callback` soon and once, with the revision at a moment after this call."""
        self._waiting.append(callback)
        if len(self._waiting) == 1 and not self._reading:
            # Not at once, so that requests whose bytes the loop has already received can join this read.
            asyncio.get_running_loop().call_soon(self._begin)

    async def revision(self) -> str | None:
        """Return the revision, or None when it cannot be read."""
        future: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.read(lambda revision: None if future.done() else future.set_result(revision))
        return await future

    def close(self) -> None:
        """Close the source; the next read makes another."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _begin(self) -> None:
        if self._reading or not self._waiting:
            return
        self._reading, self._waiting = self._waiting, []
        if self._source is None:
            self._source = self._make_source()
        self._started = perf_counter()
        self._source.begin(self._finish)

    def _finish(self, revision: str | None) -> None:
        if revision is None:
            read_times.failed += 1
        else:
            read_times.add(perf_counter() - self._started)
        callbacks, self._reading = self._reading, []
        for callback in callbacks:
            try:
                callback(revision)
            except Exception:  # one that fails must not stop the others
                logger.exception("A request failed after the policy revision was read.")
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._begin)


def _source() -> RevisionSource:
    return SqliteSource(str(connection.settings_dict["NAME"])) if connection.vendor == "sqlite" else PostgresSource()


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


class PostgresSource:  # pragma: no cover - the PostgreSQL pass runs it, and measures nothing
    """Reads over its own connection through libpq's non-blocking interface, which takes the loop some ten microseconds."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection: psycopg.Connection[Any] | None = None
        self._descriptor = -1  # of the connection's socket
        self._callback: Callback | None = None
        self._revision: str | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Future[psycopg.Connection[Any] | None] | None = None
        self._attempted_at = float("-inf")  # the last attempt, by the loop's clock

    def begin(self, callback: Callback) -> None:
        """Send the query. Without a connection, call `callback` with None at once and begin to connect."""
        if self._connection is None:
            self._connect()
            callback(None)
            return
        self._callback, self._revision = callback, None
        try:
            self._connection.pgconn.send_query(READ.encode())
            unsent = self._connection.pgconn.flush()
        except psycopg.Error:
            self._reconnect()
            return
        if unsent:  # a query of 50 bytes does not fit into the socket's buffer: the server has stopped reading
            self._reconnect()
            return
        self._timeout = self._loop.call_later(_TIMEOUT_SECONDS, self._overdue)

    def _readable(self) -> None:
        """Take what the server sent, and finish the read when the result is complete."""
        if self._connection is None:
            return
        pgconn = self._connection.pgconn
        try:
            pgconn.consume_input()
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    break
                if result.status != pq.ExecStatus.TUPLES_OK:
                    self._reconnect()
                    return
                value = result.get_value(0, 0) if result.ntuples else None
                self._revision = value.decode("ascii") if value is not None else None
            else:
                return
        except psycopg.Error:
            self._reconnect()
            return
        self._finish()

    def _finish(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(self._revision)

    def _overdue(self) -> None:
        outage.suspect(psycopg.OperationalError("the policy revision was not read in time"), connected=True)
        self._reconnect()

    def _reconnect(self) -> None:
        """Close the connection, finish the read without a revision, and connect again."""
        self.close()
        self._revision = None
        self._finish()
        self._connect()

    def _connect(self) -> None:
        now = self._loop.time()
        if self._connecting is None and now - self._attempted_at >= _RECONNECT_SECONDS:
            self._attempted_at = now
            self._connecting = self._loop.run_in_executor(None, self._open)
            self._connecting.add_done_callback(self._opened)

    def _open(self) -> psycopg.Connection[Any] | None:
        """Return a new connection, or None. Runs in a thread."""
        params = connection.get_connection_params()
        for name in ("pool", "cursor_factory", "context"):
            params.pop(name, None)
        params["connect_timeout"] = settings.DATABASE_TIMEOUT
        with suppress(psycopg.Error, OSError):
            opened = psycopg.connect(**params, autocommit=True)
            opened.pgconn.nonblocking = 1
            return opened
        return None

    def _opened(self, future: "asyncio.Future[psycopg.Connection[Any] | None]") -> None:
        self._connecting = None
        opened = None if future.cancelled() or future.exception() else future.result()
        if opened is not None:
            self._connection, self._descriptor = opened, opened.pgconn.socket
            self._loop.add_reader(self._descriptor, self._readable)

    def close(self) -> None:
        if self._connection is not None:
            # By the stored number: a lost connection no longer has it, and the kernel gives it to a client's connection next.
            self._loop.remove_reader(self._descriptor)
            self._connection.close()
            self._connection = None
