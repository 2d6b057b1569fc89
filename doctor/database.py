"""Checks of the database itself: it answers, nothing that the migrations create is missing, and changes can be stored."""

from collections.abc import Iterable

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, transaction
from django.db.migrations.executor import MigrationExecutor

from accounts.models import PolicyRevision
from doctor.finding import Check, Finding
from revision import triggers


def unreachable(check: Check) -> Iterable[Finding]:
    """Yield the database's own words where it cannot be queried."""
    connection = connections[DEFAULT_DB_ALIAS]
    try:
        connection.ensure_connection()
        connection.introspection.table_names()
    except DatabaseError as error:
        yield check.finding(f"The database cannot be used: {_first_line(error)}.", "Check DATABASE_URL.")


def migrations(check: Check) -> Iterable[Finding]:
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    if plan := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        what = "1 migration is not applied." if len(plan) == 1 else f"{len(plan)} migrations are not applied."
        yield check.finding(what, "Run: manage.py migrate")


def missing_tables(check: Check) -> Iterable[Finding]:
    """Yield the tables that migrations have created, and that are gone."""
    there = set(connections[DEFAULT_DB_ALIAS].introspection.table_names())
    if tables := sorted({model._meta.db_table for model in apps.get_models() if model._meta.managed} - there):
        yield check.finding("Tables are missing", "Restore a backup: manage.py restore", names=tables)


def missing_triggers(check: Check) -> Iterable[Finding]:
    """Yield the tables whose changes would not renew the policy revision; a restored dump can lack their triggers."""
    if tables := triggers.missing(connections[DEFAULT_DB_ALIAS]):
        what = "Triggers are missing, so servers would keep decisions that changes to these tables make wrong"
        yield check.finding(what, "Run: manage.py migrate", names=tables)


def missing_revision(check: Check) -> Iterable[Finding]:
    """Yield a finding if the row of the policy revision was deleted. The next change creates it; nothing is cached until then."""
    if not PolicyRevision.objects.exists():
        yield check.finding("The policy revision is missing, so no decision is cached.", "Run: manage.py migrate")


def changes_fail(check: Check) -> Iterable[Finding]:
    """Yield the database's own words if a change cannot be stored, as in a read-only database; the attempt is rolled back."""
    connection = connections[DEFAULT_DB_ALIAS]
    try:
        with transaction.atomic(using=connection.alias):
            triggers.change_revision(connection)
            transaction.set_rollback(True, using=connection.alias)
    except DatabaseError as error:
        yield check.finding(
            f"Changes cannot be stored: {_first_line(error)}.", "Until they can, nobody can be disabled or revoked."
        )


def _first_line(error: DatabaseError) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
