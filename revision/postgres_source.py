"""Reads the policy revision from PostgreSQL, without blocking the event loop."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg
from django.conf import settings
from django.db import connection
from psycopg import pq

from core.postgresql.deadline import BoundedConnection
from core.postgresql.outage import outage
from revision.epoch import MAX_CHANGES, Callback, Epoch, Follower, LoggedChange, PendingRead, Position
from revision.trigger_sql import FUNCTION, LOG, LOG_FUNCTION, PREFIX, TABLE
from revision.triggers import INSTALLED, LOG_BODY, lacking, read_installed

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

_RECONNECT_SECONDS: Final = 0.5  # between two attempts to connect
# A connection can lead to a primary that was replaced, and still answers. So it is replaced by one to where the name leads now.
_LIFETIME_SECONDS: Final = 30.0
_CHECK_SECONDS: Final = 1.0  # between two checks that the triggers are those that were found when it connected

# ruff: noqa: S608 - names of ours alone
# The server and the table: a restored table is another one, and so is a server that started again, or took over.
_PLACE: Final = "tableoid, pg_postmaster_start_time()"
_READ: Final = f"SELECT mark, {_PLACE} FROM {TABLE} WHERE id = 1"  # nosec B608
_CHANGES: Final = (
    f"SELECT {TABLE}.mark, {TABLE}.tableoid, pg_postmaster_start_time(), {TABLE}.number,"
    f" log.number, log.previous, log.value, log.kind, log.key"
    f" FROM {TABLE} LEFT JOIN {LOG} AS log ON log.number > %d WHERE {TABLE}.id = 1"
    f" ORDER BY log.number, log.position LIMIT {MAX_CHANGES}"  # nosec B608
)
# What identifies the installed triggers and functions: any change of one makes another version of its row. A trigger stays with
# its table, also when the table is renamed, moved or hidden by another one of its name, whose changes then fire nothing.
_TRIGGERS: Final = (
    "(SELECT md5(string_agg(concat_ws(' ', pg_trigger.oid, pg_trigger.xmin, tgenabled, relname, pg_table_is_visible(tgrelid)),"
    " ',' ORDER BY pg_trigger.oid)) FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
    f" WHERE left(tgname, {len(PREFIX)}) = '{PREFIX}'),"
    " (SELECT string_agg(concat_ws(' ', oid, xmin), ',' ORDER BY oid) FROM pg_proc"
    f" WHERE proname IN ('{FUNCTION}', '{LOG_FUNCTION}'))"  # nosec B608
)
_READ_CHECKED: Final = f"SELECT mark, {_PLACE}, {_TRIGGERS} FROM {TABLE} WHERE id = 1"  # nosec B608
_SERVER: Final = f"SELECT (SELECT oid FROM pg_database WHERE datname = current_database())::text, {_TRIGGERS}"  # nosec B608


class _Opened(NamedTuple):
    """A new connection, its database, and the triggers that were found there, or () if one is missing."""

    connection: "psycopg.Connection[Any]"
    database: str
    triggers: tuple[str | None, ...]


class PostgresSource:  # pragma: no cover - the PostgreSQL pass runs it, and measures nothing
    """Reads over its own connection through libpq's non-blocking interface, which takes the loop some ten microseconds.

    A connection is used only after all triggers were found. It is replaced when they have changed, and every _LIFETIME_SECONDS.
    The epoch goes on over another connection to the same database, with the same triggers, on a server that did not restart.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._follower = Follower()
        self._epoch: Epoch | None = None
        self._unchanged: tuple[bytes | None, ...] = ()  # the revision and the place at which `_epoch` was read
        self._connection: psycopg.Connection[Any] | None = None
        self._opened_as: _Opened | None = None
        self._next: _Opened | None = None  # replaces the connection before the next read
        self._descriptor = -1  # of the connection's socket
        self._pending = PendingRead()
        self._result: PGresult | None = None
        self._take: Callable[[PGresult], bool] = self._take_revision
        self._checks_triggers = False
        self._check_at = self._expires_at = 0.0  # by the loop's clock
        self._connecting: asyncio.Future[_Opened | None] | None = None
        self._attempted_at = float("-inf")  # the last attempt, by the loop's clock

    def begin(self, callback: Callback) -> None:
        """Send the query. Without a connection, call `callback` with None at once and begin to connect."""
        if self._next is not None:
            opened, self._next = self._next, None
            self._use(opened)
        now = self._loop.time()
        if self._connection is not None and now >= self._expires_at + _LIFETIME_SECONDS:
            self.close()  # it was not replaced in time
        if self._connection is None:
            self._connect()
            callback(None)
            return
        if now >= self._expires_at:
            self._connect()
        self._pending.begin(callback, self._overdue)
        self._checks_triggers = now >= self._check_at
        self._send(_READ_CHECKED if self._checks_triggers else _READ, self._take_revision)

    def _send(self, query: str, take: "Callable[[PGresult], bool]") -> None:
        """Send a query; `take` receives the result, and returns whether the read is finished. Reconnect if it cannot be sent."""
        assert self._connection is not None  # noqa: S101 # nosec B101 - for mypy
        self._take, self._result = take, None
        try:
            self._connection.pgconn.send_query(query.encode())
            unsent = self._connection.pgconn.flush()
        except psycopg.Error:
            self._reconnect()
            return
        if unsent:  # so short a query does not fit into the socket's buffer: the server has stopped reading
            self._reconnect()

    def _readable(self) -> None:
        """Take what the server sent, and go on when the result is complete."""
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
                self._result = result
            else:
                return
        except psycopg.Error:
            self._reconnect()
            return
        result, self._result = self._result, None
        if result is not None and self._pending and self._take(result):
            self._pending.finish(self._epoch)

    def _take_revision(self, result: "PGresult") -> bool:
        """Take the revision, and ask for the changes if it is another one than before."""
        if not result.ntuples:
            self._epoch, self._unchanged = None, ()
            return True
        if self._checks_triggers and not self._triggers_are_same(result):
            self._reconnect()
            return False
        found = (result.get_value(0, 0), result.get_value(0, 1), result.get_value(0, 2))
        if found == self._unchanged:
            return True
        known = self._follower.known
        self._send(_CHANGES % (2**62 if known is None else known.number), self._take_changes)
        return False

    def _triggers_are_same(self, result: "PGresult") -> bool:
        self._check_at = self._loop.time() + _CHECK_SECONDS
        found = tuple(None if (value := result.get_value(0, n)) is None else value.decode() for n in (3, 4))
        return self._opened_as is not None and found == self._opened_as.triggers

    def _take_changes(self, result: "PGresult") -> bool:
        """Follow the changes, which were read with the revision in one statement."""
        if not result.ntuples:
            self._epoch, self._unchanged = None, ()
            return True
        rows = [[(value or b"").decode() for value in map(result.get_value, [n] * 9, range(9))] for n in range(result.ntuples)]
        value, table, server, number = rows[0][:4]
        changes = [LoggedChange(int(row[4]), *row[5:]) for row in rows if row[4]]
        place = (*self._opened_as[1:], table, server) if self._opened_as is not None else None
        self._epoch = self._follower.follow(Position(int(number), value), changes, place)
        self._unchanged = (value.encode(), table.encode(), server.encode())
        return True

    def _overdue(self) -> None:
        outage.suspect(psycopg.OperationalError("the policy revision was not read in time"), connected=True)
        self._reconnect()

    def _reconnect(self) -> None:
        """Close the connection, finish the read without a revision, and connect again."""
        self.close()
        self._pending.finish(None)
        self._connect()

    def _connect(self) -> None:
        now = self._loop.time()
        if self._connecting is None and now - self._attempted_at >= _RECONNECT_SECONDS:
            self._attempted_at = now
            self._connecting = self._loop.run_in_executor(None, self._open)
            self._connecting.add_done_callback(self._opened)

    def _open(self) -> _Opened | None:
        """Return a new connection, or None where there is none. Runs in a thread."""
        params = connection.get_connection_params()
        for name in ("pool", "cursor_factory", "context"):
            params.pop(name, None)
        params["connect_timeout"] = settings.DATABASE_TIMEOUT
        with suppress(psycopg.Error, OSError):
            opened = BoundedConnection.connect(**params, autocommit=True)  # nothing else ends a wait for a silent server
            found = _inspect(opened)
            opened.pgconn.nonblocking = 1
            return found
        return None

    def _opened(self, future: "asyncio.Future[_Opened | None]") -> None:
        self._connecting = None
        opened = None if future.cancelled() or future.exception() else future.result()
        if opened is None:
            return
        if not opened.triggers:  # where the name leads now, the changes are not logged
            opened.connection.close()
            self.close()
            self._pending.finish(None)
        elif not self._pending:
            self._use(opened)
        else:
            self._next = opened

    def _use(self, opened: _Opened) -> None:
        self.close()
        self._opened_as, self._connection, self._descriptor = opened, opened.connection, opened.connection.pgconn.socket
        self._unchanged = ()  # the next read takes the changes, and finds out whether this is the same database
        self._check_at = 0.0
        self._expires_at = self._loop.time() + _LIFETIME_SECONDS
        self._loop.add_reader(self._descriptor, self._readable)

    def close(self) -> None:
        if self._next is not None:
            self._next.connection.close()
            self._next = None
        if self._connection is not None:
            # By the stored number: a lost connection no longer has it, and the kernel gives it to a client's connection next.
            self._loop.remove_reader(self._descriptor)
            self._connection.close()
            self._connection = None


def _inspect(opened: "psycopg.Connection[Any]") -> _Opened:  # pragma: no cover - as PostgresSource
    """Return the connection with what identifies its database and its triggers."""
    with opened.transaction():
        opened.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        server = opened.execute(_SERVER).fetchone()
        rows = opened.execute(INSTALLED["postgresql"]).fetchall()
        log_body = opened.execute(LOG_BODY).fetchone()
    assert server is not None  # noqa: S101 # nosec B101 - for mypy: a SELECT without FROM
    complete = not lacking("postgresql", read_installed("postgresql", rows, log_body[0] if log_body else None))
    return _Opened(opened, server[0], tuple(server[1:]) if complete else ())
