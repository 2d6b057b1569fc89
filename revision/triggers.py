"""The database triggers that change the policy revision with every change that can change a decision, by any writer.

The revision is one row. Triggers rewrite it in the transaction of the change, so no writer can forget it, not even one that
bypasses the services. Two reads of the same revision prove that nothing changed in between. The value is random: a counter
would repeat its values after a backup is restored.

Last-used timestamps do not change it. Neither does a new row that no cached answer can depend on: a new user, service account,
token or session, because only callers that were found are cached. A model declares what is watched of its table: see
`core.watched`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from accounts.models import PolicyRevision
from revision.registry import WatchedTable, watched_tables

PREFIX: Final = "skyauth_mark_"
TABLE: Final = PolicyRevision._meta.db_table
READ: Final = f"SELECT mark FROM {TABLE} WHERE id = 1"  # noqa: S608 - constants only # nosec B608
_FUNCTION: Final = f"{PREFIX}renew"
_RENEW: Final = f"INSERT INTO {TABLE} (id, mark) VALUES (1, {{new}}) ON CONFLICT (id) DO UPDATE SET mark = excluded.mark"  # noqa: S608 # nosec B608
_SQLITE_NEW: Final = "lower(hex(randomblob(16)))"
_POSTGRESQL_NEW: Final = "replace(gen_random_uuid()::text, '-', '')"


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger. Its name contains a digest of its text, so a changed trigger has another name."""

    table: str
    name: str
    statement: str


def triggers(vendor: str) -> list[Trigger]:
    """Return the triggers of all watched tables; `vendor` is "sqlite" or "postgresql"."""
    make = _sqlite if vendor == "sqlite" else _postgresql
    return [trigger for table in watched_tables() for trigger in make(table)]


def _trigger(table: WatchedTable, event: str, text: str) -> Trigger:
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    name = f"{PREFIX}{table.name}_{event}_{digest}"
    return Trigger(table.name, name, text.format(name=name))


def _sqlite(table: WatchedTable) -> Iterator[Trigger]:
    changed = " OR ".join(f'OLD."{name}" IS NOT NEW."{name}"' for name in table.columns())
    body = f"BEGIN {_RENEW.format(new=_SQLITE_NEW)}; END"
    yield _trigger(table, "update", f'CREATE TRIGGER {{name}} AFTER UPDATE ON "{table.name}" WHEN {changed} {body}')
    yield _trigger(table, "delete", f'CREATE TRIGGER {{name}} AFTER DELETE ON "{table.name}" {body}')
    if table.watched.on_insert:
        yield _trigger(table, "insert", f'CREATE TRIGGER {{name}} AFTER INSERT ON "{table.name}" {body}')
    else:  # INSERT OR REPLACE deletes without firing the trigger above
        same = " OR ".join(f'"{name}" = NEW."{name}"' for name in table.unique())
        replaces = f'WHEN EXISTS (SELECT 1 FROM "{table.name}" WHERE {same})'  # noqa: S608 # nosec B608
        yield _trigger(table, "replace", f'CREATE TRIGGER {{name}} BEFORE INSERT ON "{table.name}" {replaces} {body}')


def _postgresql(table: WatchedTable) -> Iterator[Trigger]:  # pragma: no cover - as PostgresSource
    """Defer to the commit: the revision's row is then the last lock that a transaction takes, and is held for a short time."""
    changed = " OR ".join(f'OLD."{name}" IS DISTINCT FROM NEW."{name}"' for name in table.columns())
    deferred = f'ON "{table.name}" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW'
    run = f"EXECUTE FUNCTION {_FUNCTION}()"
    yield _trigger(table, "update", f"CREATE CONSTRAINT TRIGGER {{name}} AFTER UPDATE {deferred} WHEN ({changed}) {run}")
    yield _trigger(table, "delete", f"CREATE CONSTRAINT TRIGGER {{name}} AFTER DELETE {deferred} {run}")
    if table.watched.on_insert:
        yield _trigger(table, "insert", f"CREATE CONSTRAINT TRIGGER {{name}} AFTER INSERT {deferred} {run}")
    yield _trigger(table, "truncate", f'CREATE TRIGGER {{name}} AFTER TRUNCATE ON "{table.name}" FOR EACH STATEMENT {run}')


# Changes the revision once in a transaction, however many rows the transaction changed.
_POSTGRESQL_FUNCTION: Final = f"""
CREATE OR REPLACE FUNCTION {_FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('skyauth.renewed_in', true) IS DISTINCT FROM txid_current()::text THEN
        {_RENEW.format(new=_POSTGRESQL_NEW)};
        PERFORM set_config('skyauth.renewed_in', txid_current()::text, true);
    END IF;
    RETURN NULL;
END $$
"""


def installed(on: BaseDatabaseWrapper) -> dict[str, str]:
    """Return the installed triggers: the table of each, by the trigger's name."""
    query = (
        "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger' AND substr(name, 1, %s) = %s"
        if on.vendor == "sqlite"
        else "SELECT tgname, relname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
        " WHERE pg_table_is_visible(pg_class.oid) AND tgenabled <> 'D' AND left(tgname, %s) = %s"
    )
    with on.cursor() as cursor:
        cursor.execute(query, [len(PREFIX), PREFIX])
        return dict(cursor.fetchall())


def missing(on: BaseDatabaseWrapper = connection) -> list[str]:
    """Return the tables that lack a trigger, so that their changes would go unnoticed. Raises a database error."""
    names = installed(on)
    return sorted({trigger.table for trigger in triggers(on.vendor) if trigger.name not in names})


def install(on: BaseDatabaseWrapper) -> None:
    """Create missing triggers and drop old ones. Does nothing while a table does not exist (yet, or any more)."""
    tables = set(on.introspection.table_names())
    if not {TABLE, *(table.name for table in watched_tables())} <= tables:
        return
    wanted = {trigger.name: trigger for trigger in triggers(on.vendor)}
    existing = installed(on)
    if existing.keys() == wanted.keys() and PolicyRevision.objects.using(on.alias).exists():
        return
    with transaction.atomic(using=on.alias), on.cursor() as cursor:
        for name in existing.keys() - wanted.keys():
            cursor.execute(f"DROP TRIGGER {name}" + ("" if on.vendor == "sqlite" else f' ON "{existing[name]}"'))
        if on.vendor != "sqlite":
            cursor.execute(_POSTGRESQL_FUNCTION)
        for name in wanted.keys() - existing.keys():
            cursor.execute(wanted[name].statement)
        change_revision(on)


def change_revision(on: BaseDatabaseWrapper = connection) -> None:
    """Change the policy revision for a change that no trigger sees: one that depends on a setting, as a lockout does."""
    with on.cursor() as cursor:
        cursor.execute(_RENEW.format(new=_SQLITE_NEW if on.vendor == "sqlite" else _POSTGRESQL_NEW))


def after_migrate(sender: Any, using: str, **kwargs: Any) -> None:  # noqa: ARG001 - Django's signature
    """Install the triggers: SQLite drops those of a table that a migration rebuilds."""
    from django.db import connections

    install(connections[using])
