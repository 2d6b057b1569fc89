"""Connections whose waits end, also when the server is silent: no time-out of PostgreSQL's own reaches a client that it lost."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from django.conf import settings
from django.db import connection, transaction
from psycopg.abc import PQGen

from core.postgresql.addresses import with_addresses

MARGIN_SECONDS: Final = 0.5  # PostgreSQL ends a statement in time with an error, and the connection stays usable
STATEMENT_FACTOR: Final = 6  # a statement takes up to this many times DATABASE_TIMEOUT

_limited: Final = threading.local()


def limit_waits() -> None:
    """Limit each wait of this thread to DATABASE_TIMEOUT and a margin from now on.

    For threads that answer forward-auth requests or probes, and for background threads. Their statements take milliseconds.
    """
    _limited.seconds = _short()


@contextmanager
def waits_limited(seconds: float | None) -> Iterator[None]:
    """Limit each wait of this thread to so many seconds in the block; None changes nothing."""
    before = getattr(_limited, "seconds", None)
    _limited.seconds = before if seconds is None else seconds
    try:
        yield
    finally:
        _limited.seconds = before


@contextmanager
def statements_limited(seconds: int) -> Iterator[None]:
    """Run the block in a transaction in which PostgreSQL ends each statement after so many seconds. SQLite has no such limit."""
    with waits_limited(seconds + MARGIN_SECONDS), transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL statement_timeout = '{seconds}s'")
        yield


def statement_seconds() -> int:
    """Return the `statement_timeout` of each connection, in seconds."""
    return int(settings.DATABASE_TIMEOUT) * STATEMENT_FACTOR


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when an answer of the server takes too long. The caller gets an OperationalError then.

    The limit is DATABASE_TIMEOUT and a margin. With `runs_statements` set, and in a thread without `limit_waits`, it is the
    statement time-out and a margin.
    """

    runs_statements = False

    @classmethod
    def _get_connection_params(cls, conninfo: str, **kwargs: Any) -> dict[str, Any]:
        """Return the parameters, with the addresses of the host: psycopg would ask the name server without a deadline."""
        return with_addresses(super()._get_connection_params(conninfo, **kwargs))

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for an answer. `timeout` is psycopg's own, of a caller that expects that nothing may come."""
        try:
            return super().wait(gen, interval, self._limit() if timeout is None else timeout)
        except psycopg.errors._WaitTimeout:
            if timeout is not None:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {self._limit():g} seconds") from None

    def _limit(self) -> float:
        limit: float | None = getattr(_limited, "seconds", None)
        if limit is not None:
            return limit
        return statement_seconds() + MARGIN_SECONDS if self.runs_statements else _short()


def _short() -> float:
    return float(settings.DATABASE_TIMEOUT) + MARGIN_SECONDS
