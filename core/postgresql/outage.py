"""Whether PostgreSQL is lost: suspected by any connection that fails, decided by a new connection with deadlines of its own.

While it is lost, requests get an error at once instead of waiting for it one after another, and a thread tries to connect.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import psycopg
from psycopg.abc import PQGen
from psycopg_pool import ConnectionPool, PoolTimeout

from core.postgresql.deadline import BoundedConnection, limit_waits, waits_limited

RETRY_SECONDS: Final = 0.25
_UNDECIDED_SECONDS: Final = 1.0  # how long requests wait while it is not yet known whether the database is lost
_IDLE_SECONDS: Final = 0.5  # in which a pooled connection answers while no new one can be made
_RETURNED_SECONDS: Final = 0.8  # in which another thread returns one, and it answers

logger = logging.getLogger("skyauth.database")

Pool = ConnectionPool[Any]


class Outage:
    """What this process knows of the database. Any thread can call its methods."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._prober: threading.Thread | None = None
        self._decided = threading.Event()  # set except until the first attempt of a prober
        self._decided.set()
        self._suspected_at = 0.0
        self._params: Mapping[str, Any] = {}
        self._pool: Pool | None = None
        self._drop: Callable[[Pool], None] | None = None
        self._stale = False  # whether an existing connection failed, so that the others of the pool can be dead, too
        self._usable = False  # whether connections of the pool answer although no new one can be made
        self.fault = ""
        """Why the database is lost: SQLSTATE, where there is one, and the server's first line. "" while it is not lost."""

    def watch(self, params: Mapping[str, Any], pool: Pool, drop: Callable[[Pool], None]) -> None:
        """Keep how to connect, the pool, and how to replace it."""
        self._params, self._pool, self._drop = params, pool, drop

    def suspect(self, error: Exception, *, connected: bool) -> None:
        """Find out in a thread whether the database is lost, because of this error. Returns at once.

        `connected` says whether an existing connection failed, and not an attempt to make one.
        """
        with self._lock:
            self._stale = self._stale or connected
            if self._pool is None or self._prober is not None:
                return
            self._suspected_at = time.monotonic()
            self._decided.clear()
            self._prober = threading.Thread(target=self._probe, args=(error,), name="database-probe", daemon=True)
            self._prober.start()

    def admit(self) -> float | None:
        """Return for how many seconds to wait for a connection of the pool that answers; None stands for the usual time-outs.

        Raises OperationalError if the database is lost. While that is not known, it first waits a moment.
        """
        undecided = self._suspected_at + _UNDECIDED_SECONDS - time.monotonic()
        decided = self._decided.is_set() or self._decided.wait(max(0.0, undecided))
        if self.fault and not self._usable:
            raise psycopg.OperationalError(f"the database is lost: {self.fault}")
        return _RETURNED_SECONDS if self.fault or not decided else None

    def connections(self) -> tuple[int, int, int]:
        """Return how many connections of the pool are idle and used, and how many threads wait for one."""
        pool = self._pool
        if pool is None:
            return 0, 0, 0
        stats = pool.get_stats()
        return stats["pool_available"], stats["pool_size"] - stats["pool_available"], stats["requests_waiting"]

    def _probe(self, suspicion: Exception) -> None:
        limit_waits()
        while True:
            try:
                self._connect()
            except Exception as error:  # noqa: BLE001 - whatever it is, there is no connection
                self._lost(error, suspicion)
                time.sleep(RETRY_SECONDS)
            else:
                self._found()
                return

    def _connect(self) -> None:
        with BoundedConnection.connect(**{**self._params, "autocommit": True}) as connection:
            connection.execute("SELECT 1")

    def _lost(self, error: Exception, suspicion: Exception) -> None:
        self._usable = self._pooled_answers()
        if not self._usable:
            self._replace_pool()
        if not self.fault:
            self.fault = description(error)
            what = "PostgreSQL accepts no new connection" if self._usable else "The database is lost"
            cause = "" if description(suspicion) == self.fault else f" It began with: {description(suspicion)}"
            logger.error("%s: %s.%s", what, self.fault.rstrip("."), cause)
        self._decided.set()

    def _found(self) -> None:
        if self._stale:
            self._replace_pool()  # its other connections can lead to the server that was there before
        with self._lock:
            fault, self.fault, self._prober, self._stale = self.fault, "", None, False
        self._decided.set()
        if fault:
            logger.warning("The database is found again.")

    def _pooled_answers(self) -> bool:
        """Return whether a connection of the pool answers, as all do while PostgreSQL only accepts no more."""
        pool = self._pool
        if pool is None or not pool.get_stats()["pool_size"]:
            return False
        with suppress(psycopg.Error), waits_limited(_IDLE_SECONDS):
            pool.putconn(take(pool, _IDLE_SECONDS))
            return True
        return False

    def _replace_pool(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None and self._drop is not None:
            self._drop(pool)


def description(error: Exception) -> str:
    """Return SQLSTATE, where the server sent one, and the first line of an error. libpq never puts a password into it."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    state = getattr(error, "sqlstate", None)
    return f"{state}: {line}" if state else line


outage: Final = Outage()


class PooledConnection(BoundedConnection):
    """A connection of the pool, which reports its loss."""

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> "PooledConnection":
        """Connect, within the `connect_timeout` for each address."""
        try:
            return super().connect(conninfo, **kwargs)
        except psycopg.OperationalError as error:
            outage.suspect(error, connected=False)
            raise

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for an answer, and report the loss of the connection."""
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.Error as error:
            if self.closed:
                outage.suspect(error, connected=True)
            raise


def take(pool: Pool, seconds: float) -> PooledConnection:
    """Return a connection that answers, and is younger than `max_lifetime`, which psycopg checks only when one is returned.

    Raises PoolTimeout, and PoolClosed as soon as the pool is replaced. psycopg's own check sleeps for a second after the second
    dead connection, and then waits in the queue of a pool that was closed meanwhile.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection: PooledConnection = pool.getconn(deadline - time.monotonic())
        except PoolTimeout:
            raise PoolTimeout(f"couldn't get a connection after {seconds:.2f} sec") from None
        if connection._expire_at > time.monotonic() and _answers(connection):
            return connection
        pool.putconn(connection)


def _answers(connection: PooledConnection) -> bool:
    with suppress(psycopg.Error):
        ConnectionPool.check_connection(connection)
        return True
    return False
