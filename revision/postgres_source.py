"""Reads the policy revision from PostgreSQL, without blocking the event loop."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import psycopg
from django.conf import settings
from django.db import connection
from psycopg import pq

from revision.triggers import READ

Callback = Callable[[str | None], None]

_TIMEOUT_SECONDS: Final = 1.0  # then the request takes the slow path, which has a time-out of its own
_RECONNECT_SECONDS: Final = 0.5  # between two attempts to connect


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
        self._timeout = self._loop.call_later(_TIMEOUT_SECONDS, self._reconnect)

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
