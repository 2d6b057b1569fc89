"""The mark of everything that decides: whatever changes an answer, on any replica and by any writer, changes the mark with it.

The mark is one row, and the database itself rewrites it, by triggers, in the transaction of the change. So no writer can
forget to, not even one that goes round the services; and whoever reads the same mark twice knows that in between nothing
changed. It is random and not a number that grows, because after a restored backup the numbers would come again.

What merely notes a use (`last_used_at`) leaves it alone. So does a new row that no answer can have depended on: a new user,
service account, token or session, for only what was found is ever remembered.
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
READ: Final = f"SELECT mark FROM {TABLE} WHERE id = 1"  # noqa: S608 - no value of anybody's is in it # nosec B608
_FUNCTION: Final = f"{PREFIX}renew"
_RENEW: Final = f"INSERT INTO {TABLE} (id, mark) VALUES (1, {{new}}) ON CONFLICT (id) DO UPDATE SET mark = excluded.mark"  # noqa: S608 # nosec B608
_SQLITE_NEW: Final = "lower(hex(randomblob(16)))"
_POSTGRESQL_NEW: Final = "replace(gen_random_uuid()::text, '-', '')"


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger; its name has a digest of its text, so that a changed one is another one."""

    table: str
    name: str
    statement: str


def triggers(vendor: str) -> list[Trigger]:
    """Return the triggers that the tables need on this kind of database."""
    make = _sqlite if vendor == "sqlite" else _postgresql
    return [trigger for table in watched_tables() for trigger in make(table)]


def _named(table: WatchedTable, event: str, text: str) -> Trigger:
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    name = f"{PREFIX}{table.name}_{event}_{digest}"
    return Trigger(table.name, name, text.format(name=name))


def _sqlite(table: WatchedTable) -> Iterator[Trigger]:
    changed = " OR ".join(f'OLD."{name}" IS NOT NEW."{name}"' for name in table.columns())
    body = f"BEGIN {_RENEW.format(new=_SQLITE_NEW)}; END"
    yield _named(table, "update", f'CREATE TRIGGER {{name}} AFTER UPDATE ON "{table.name}" WHEN {changed} {body}')
    yield _named(table, "delete", f'CREATE TRIGGER {{name}} AFTER DELETE ON "{table.name}" {body}')
    if table.watched.inserts:
        yield _named(table, "insert", f'CREATE TRIGGER {{name}} AFTER INSERT ON "{table.name}" {body}')
    else:  # INSERT OR REPLACE deletes without firing the trigger above
        same = " OR ".join(f'"{name}" = NEW."{name}"' for name in table.unique())
        there = f'WHEN EXISTS (SELECT 1 FROM "{table.name}" WHERE {same})'  # noqa: S608 # nosec B608
        yield _named(table, "replace", f'CREATE TRIGGER {{name}} BEFORE INSERT ON "{table.name}" {there} {body}')


def _postgresql(table: WatchedTable) -> Iterator[Trigger]:
    """Deferred to the commit: the mark's row is the last lock that a transaction takes, and held for no longer than need be."""
    changed = " OR ".join(f'OLD."{name}" IS DISTINCT FROM NEW."{name}"' for name in table.columns())
    late = f'ON "{table.name}" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW'
    run = f"EXECUTE FUNCTION {_FUNCTION}()"
    yield _named(table, "update", f"CREATE CONSTRAINT TRIGGER {{name}} AFTER UPDATE {late} WHEN ({changed}) {run}")
    yield _named(table, "delete", f"CREATE CONSTRAINT TRIGGER {{name}} AFTER DELETE {late} {run}")
    if table.watched.inserts:
        yield _named(table, "insert", f"CREATE CONSTRAINT TRIGGER {{name}} AFTER INSERT {late} {run}")
    yield _named(table, "truncate", f'CREATE TRIGGER {{name}} AFTER TRUNCATE ON "{table.name}" FOR EACH STATEMENT {run}')


# Once a transaction is enough, however many rows it changed.
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
    """Return the tables of the triggers that the database has, by the trigger's name."""
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
    """Return the tables whose changes would not renew the mark. Raises a database error."""
    there = installed(on)
    return sorted({trigger.table for trigger in triggers(on.vendor) if trigger.name not in there})


def install(on: BaseDatabaseWrapper) -> None:
    """Make the triggers be as they should; nothing where they are, or where the tables are not there (yet, or any more)."""
    tables = set(on.introspection.table_names())
    if not {TABLE, *(table.name for table in watched_tables())} <= tables:
        return
    wanted = {trigger.name: trigger for trigger in triggers(on.vendor)}
    there = installed(on)
    if there.keys() == wanted.keys() and PolicyRevision.objects.using(on.alias).exists():
        return
    with transaction.atomic(using=on.alias), on.cursor() as cursor:
        for name in there.keys() - wanted.keys():
            cursor.execute(f"DROP TRIGGER {name}" + ("" if on.vendor == "sqlite" else f' ON "{there[name]}"'))
        if on.vendor != "sqlite":
            cursor.execute(_POSTGRESQL_FUNCTION)
        for name in wanted.keys() - there.keys():
            cursor.execute(wanted[name].statement)
        new = _SQLITE_NEW if on.vendor == "sqlite" else _POSTGRESQL_NEW
        cursor.execute(_RENEW.format(new=new))


def after_migrate(sender: Any, using: str, **kwargs: Any) -> None:  # noqa: ARG001 - Django's signature
    """Install the triggers: SQLite loses those of a table that a migration rebuilds."""
    from django.db import connections

    install(connections[using])
