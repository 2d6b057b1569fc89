"""An advisory lock of the database: what replaces its content holds it alone, and a server that starts tries to share it.

It belongs to a transaction and not to a session, so it also works through PgBouncer in transaction mode. A server does not keep
it: a restore counts the connections after it has the lock, and a server has a connection before it tries the lock. So one of
the two always sees the other.
"""

import time
from typing import Any, Final

import psycopg
from django.db import connection, transaction

_KEY: Final = int.from_bytes(b"skyauth", "big")
# Time-outs of PostgreSQL that would end the idle transaction, and the lock with it. Not every version has all of them.
_NO_TIME_OUTS: Final = """
    SELECT set_config(name, '0', true) FROM pg_settings
    WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')
"""


def is_held() -> bool:
    """Return whether a restore is running now, over Django's connection to PostgreSQL. Raises a database error."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock_shared(%s)", [_KEY])
        return not cursor.fetchone()[0]


def take(own: "psycopg.Connection[Any]", deadline: float) -> bool:
    """Take the lock for as long as the transaction of this connection lasts. Return False if the deadline passes before.

    The deadline is one of `time.monotonic`. A server that starts shares the lock for milliseconds.
    """
    own.execute(_NO_TIME_OUTS)
    while not own.execute("SELECT pg_try_advisory_xact_lock(%s)", [_KEY]).fetchone()[0]:  # type: ignore[index]
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
