"""Whether PostgreSQL accepts as many connections as the servers can open."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.db import connection

from core.postgresql.process_name import SERVER
from doctor.finding import Check, Finding

BESIDE_POOL: Final = 2  # of a worker: the connection that reads the policy revision, and for a moment the one that replaces it

# reserved_connections exists since PostgreSQL 16. A superuser can use reserved connections, and has no limit of its own.
_LIMITS: Final = """
    SELECT rolsuper, rolconnlimit, datconnlimit, current_setting('max_connections')::int,
        current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true), '0')::int
    FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()
"""
# Of other roles, only names and databases can be seen. Rows without a database are processes of PostgreSQL itself. Commands, such
# as this one, have the same name and end soon.
_CLIENTS: Final = """
    SELECT count(DISTINCT application_name) FILTER (WHERE server), count(*) FILTER (WHERE NOT server),
        count(*) FILTER (WHERE NOT server AND usename = current_user),
        count(*) FILTER (WHERE NOT server AND datname = current_database())
    FROM (
        SELECT *, datname = current_database() AND application_name ~ %s AS server FROM pg_stat_activity
        WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'
            AND (usename, application_name) IS DISTINCT FROM (current_user, current_setting('application_name'))
    ) AS client
"""


@dataclass(frozen=True, slots=True)
class _Limit:
    """How many connections are accepted, why, and how many of them other programs use now."""

    accepted: int
    source: str
    others: int


def too_few(check: Check) -> Iterable[Finding]:
    """Yield a finding if the workers that are connected now, or else one worker, can open more connections than are left."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute(_LIMITS)
        superuser, of_role, of_database, maximum, reserved = cursor.fetchone()
        cursor.execute(_CLIENTS, [SERVER])
        workers, *others = cursor.fetchone()
    limit = min(
        _limits(superuser, of_role, of_database, maximum, reserved, others), key=lambda limit: limit.accepted - limit.others
    )
    workers = max(1, workers)
    needed, left = workers * (settings.DATABASE_POOL_SIZE + BESIDE_POOL), limit.accepted - limit.others
    if needed > left:
        yield check.finding(
            f"{_count(workers, 'worker')} can open {needed} connections, and other programs use {limit.others}, "
            f"but PostgreSQL accepts {limit.accepted} ({limit.source}).",
            _todo(workers, needed - left, left),
        )


def _limits(superuser: bool, of_role: int, of_database: int, maximum: int, reserved: int, others: list[int]) -> Iterator[_Limit]:
    everybody, same_role, same_database = others
    if superuser:
        yield _Limit(maximum, f"max_connections is {maximum}", everybody)
        return
    yield _Limit(maximum - reserved, f"max_connections is {maximum}, and {reserved} are reserved", everybody)
    if of_role >= 0:
        yield _Limit(of_role, "CONNECTION LIMIT of the role", same_role)
    if of_database >= 0:
        yield _Limit(of_database, "CONNECTION LIMIT of the database", same_database)


def _todo(workers: int, missing: int, left: int) -> str:
    size = left // workers - BESIDE_POOL
    smaller = f"Set DATABASE_POOL_SIZE={size} or less, or raise" if size >= 1 else "Start fewer workers, or raise"
    return f"{smaller} the limit by {missing} or more. In a rolling restart, there are more workers for a moment."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
