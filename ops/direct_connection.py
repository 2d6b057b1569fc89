"""A connection to PostgreSQL beside Django's pool: for a lock that a session holds, and for the server's own error messages."""

from typing import Any

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper


def connect(database: BaseDatabaseWrapper) -> "psycopg.Connection[Any]":
    """Return a new connection in autocommit mode. Raises OperationalError of Django."""
    params = database.get_connection_params()
    for name in ("pool", "cursor_factory", "context"):
        params.pop(name, None)
    with database.wrap_database_errors:
        return psycopg.connect(**params, autocommit=True)
