"""A short lock time-out for background writes: last-used timestamps, recorded refusals."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.conf import settings
from django.db import Error, connection, transaction

MILLISECONDS: Final = 100


@contextmanager
def short_lock_timeout() -> Iterator[None]:
    """Run the block in a transaction that waits MILLISECONDS for a lock instead of DATABASE_TIMEOUT. Raises a database error.

    With the longer time-out, one writer that holds a lock would delay every request that writes such a row. Inside another
    transaction, which holds its locks already, the block is a savepoint.
    """
    if connection.in_atomic_block:
        with transaction.atomic():
            yield
        return
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"PRAGMA busy_timeout = {MILLISECONDS}")
            try:
                with transaction.atomic():
                    yield
            finally:
                cursor.execute(f"PRAGMA busy_timeout = {settings.DATABASE_TIMEOUT * 1000}")
        else:
            with transaction.atomic():
                cursor.execute(f"SET LOCAL lock_timeout = '{MILLISECONDS}ms'")
                yield


def is_lock_timeout(error: Error) -> bool:
    """Return whether a statement failed because it waited for a lock too long."""
    cause = error.__cause__
    primary = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # https://www.sqlite.org/rescode.html
    return getattr(cause, "sqlstate", None) == "55P03" or primary in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
