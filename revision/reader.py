"""ReadTimes the mark of `revision.triggers` for an event loop: anew for whoever asks, once for all who were waiting.

Like a database's group commit: who asks joins those that wait for the next read, and a read serves only those that were
waiting when it began. What it tells is therefore never older than the question. Nothing lives by a time-to-live.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Protocol

import psycopg
from django.conf import settings
from django.db import connection
from psycopg import pq

from core.histogram import LatencyHistogram
from revision.triggers import READ

logger = logging.getLogger("skyauth.gateway")

Callback = Callable[[str | None], None]

_PATIENCE_SECONDS: Final = 1.0  # then the question takes the long way, which has a patience of its own
_AGAIN_SECONDS: Final = 0.5  # between two attempts to connect


class ReadTimes(LatencyHistogram):
    """How long this process's reads of the mark took, and how many ended without it."""

    __slots__ = ("failed",)

    def __init__(self) -> None:
        super().__init__()
        self.failed = 0


reads = ReadTimes()


class Reader(Protocol):
    """ReadTimes the mark from one kind of database, without holding the event loop up."""

    def begin(self, heard: Callback) -> None:
        """Begin a read that ends with one call of `heard`: the mark, or None when it could not be read."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class RevisionReader:
    """Tells the mark to whoever asks. None instead of a mark means: nothing remembered may be used."""

    def __init__(self, make: Callable[[], Reader] | None = None) -> None:
        self._make = make or _reader
        self._reader: Reader | None = None
        self._waiting: list[Callback] = []
        self._asked: list[Callback] = []  # of the read that is under way
        self._began = 0.0

    def read(self, heard: Callback) -> None:
        """Have `heard` called, soon and once, with the mark as it is at some moment after this call."""
        self._waiting.append(heard)
        if len(self._waiting) == 1 and not self._asked:
            # Not at once: whoever's bytes the loop has in its hands already shall wait for the same read.
            asyncio.get_running_loop().call_soon(self._begin)

    async def mark(self) -> str | None:
        """Return the mark, or None when it cannot be read."""
        told: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.read(lambda mark: None if told.done() else told.set_result(mark))
        return await told

    def close(self) -> None:
        """Let go of the connection; the next read makes another."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _begin(self) -> None:
        if self._asked or not self._waiting:
            return
        self._asked, self._waiting = self._waiting, []
        if self._reader is None:
            self._reader = self._make()
        self._began = perf_counter()
        self._reader.begin(self._tell)

    def _tell(self, mark: str | None) -> None:
        if mark is None:
            reads.failed += 1
        else:
            reads.add(perf_counter() - self._began)
        asked, self._asked = self._asked, []
        for heard in asked:
            try:
                heard(mark)
            except Exception:  # one that fails must not keep the others waiting
                logger.exception("A question could not be gone on with.")
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._begin)


def _reader() -> Reader:
    return SqliteSource(str(connection.settings_dict["NAME"])) if connection.vendor == "sqlite" else PostgresSource()


class SqliteSource:
    """ReadTimes from a file: a few microseconds, in the loop itself. One that is locked is not waited for.

    A file that was put in the place of the one that is open tells nothing: what others read may still be the old one.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def begin(self, heard: Callback) -> None:
        """Read, and tell."""
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(self._path, timeout=0, isolation_level=None)
            row = self._connection.execute(READ).fetchone()
            found = self._path.stat()
        except (sqlite3.Error, OSError):
            self.close()
            heard(None)
            return
        file = (found.st_dev, found.st_ino)
        self._file = self._file or file
        heard(row[0] if row and file == self._file else None)

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class PostgresSource:
    """Reads over one connection of its own through libpq's non-blocking interface, which costs the loop some ten microseconds."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection: psycopg.Connection[Any] | None = None
        self._watched = -1  # the descriptor of its socket
        self._heard: Callback | None = None
        self._found: str | None = None
        self._clock: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Future[psycopg.Connection[Any] | None] | None = None
        self._tried = float("-inf")

    def begin(self, heard: Callback) -> None:
        """Send the query; its answer is told when it comes. Without a connection: None at once, and one is being made."""
        if self._connection is None:
            self._connect()
            heard(None)
            return
        self._heard, self._found = heard, None
        try:
            self._connection.pgconn.send_query(READ.encode())
            unsent = self._connection.pgconn.flush()
        except psycopg.Error:
            self._lost()
            return
        if unsent:  # a query of 50 bytes does not fit: nobody reads at the other end
            self._lost()
            return
        self._clock = self._loop.call_later(_PATIENCE_SECONDS, self._lost)

    def _readable(self) -> None:
        """Take what the server sent; when the answer is whole, tell it."""
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
                    self._lost()
                    return
                value = result.get_value(0, 0) if result.ntuples else None
                self._found = value.decode("ascii") if value is not None else None
            else:
                return
        except psycopg.Error:
            self._lost()
            return
        self._done()

    def _done(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        heard, self._heard = self._heard, None
        if heard is not None:
            heard(self._found)

    def _lost(self) -> None:
        """Give the connection up, tell that the mark is not known, and try to connect again."""
        self.close()
        self._found = None
        self._done()
        self._connect()

    def _connect(self) -> None:
        now = self._loop.time()
        if self._connecting is None and now - self._tried >= _AGAIN_SECONDS:
            self._tried = now
            self._connecting = self._loop.run_in_executor(None, self._open)
            self._connecting.add_done_callback(self._opened)

    def _open(self) -> psycopg.Connection[Any] | None:
        """Return a new connection, or None; in a thread."""
        params = connection.get_connection_params()
        for name in ("pool", "cursor_factory", "context"):
            params.pop(name, None)
        params["connect_timeout"] = settings.DATABASE_TIMEOUT
        with suppress(psycopg.Error, OSError):
            made = psycopg.connect(**params, autocommit=True)
            made.pgconn.nonblocking = 1
            return made
        return None

    def _opened(self, done: "asyncio.Future[psycopg.Connection[Any] | None]") -> None:
        self._connecting = None
        made = None if done.cancelled() or done.exception() else done.result()
        if made is not None:
            self._connection, self._watched = made, made.pgconn.socket
            self._loop.add_reader(self._watched, self._readable)

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            # By the number that it had: a lost connection no longer knows it, and the next one to get it is a client's.
            self._loop.remove_reader(self._watched)
            self._connection.close()
            self._connection = None
