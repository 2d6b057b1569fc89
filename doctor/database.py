"""Checks of the database itself: it answers, its migrations are applied, and its triggers are installed."""

from collections.abc import Iterable

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor

from doctor.finding import Check, Finding
from revision import triggers


def unreachable(check: Check) -> Iterable[Finding]:
    """Yield the database's own words where it cannot be queried."""
    connection = connections[DEFAULT_DB_ALIAS]
    try:
        connection.ensure_connection()
        connection.introspection.table_names()
    except DatabaseError as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        yield check.finding(f"The database cannot be used: {line}", "Check DATABASE_URL.")


def migrations(check: Check) -> Iterable[Finding]:
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    if plan := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        what = "1 migration is not applied." if len(plan) == 1 else f"{len(plan)} migrations are not applied."
        yield check.finding(what, "Run: manage.py migrate")


def missing_triggers(check: Check) -> Iterable[Finding]:
    """Yield the tables whose changes would not renew the policy revision; a restored dump can lack their triggers."""
    if tables := triggers.missing(connections[DEFAULT_DB_ALIAS]):
        what = "Triggers are missing, so servers would keep decisions that changes to these tables make wrong"
        yield check.finding(what, "Run: manage.py migrate", names=tables)
