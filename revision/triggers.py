"""The database triggers that change the policy revision with every change that can change a decision, by any writer.

The revision is one row: a number, and a random value. Triggers change both in the transaction of the change, and log what
changed, so no writer can forget it, not even one that bypasses the services. Two reads of the same value prove that nothing
changed in between. A reader that finds another value takes the log (`revision.epoch`). The value is random: a number alone
would repeat with different data after a backup is restored.

Last-used timestamps do not change it. Neither does a new row that no cached answer can depend on: a new user, service account,
token or session, because only callers that were found are cached. A model declares what is watched of its table: see
`core.watched`.

Installed triggers are compared by what they cover, read from their definitions, and not by their names. Those of a newer version
therefore satisfy an older one, which never removes them.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from accounts.models import PolicyRevision
from core.watched import EVERYTHING
from revision.registry import watched_tables
from revision.trigger_sql import (
    FORMAT,
    FUNCTION,
    LOG,
    LOG_FUNCTION,
    PREFIX,
    TABLE,
    Trigger,
    function_bodies,
    function_statements,
    sqlite_steps,
    triggers,
)

READ: Final = f"SELECT mark FROM {TABLE} WHERE id = 1"  # noqa: S608 - constants only # nosec B608

# The name, the table, the definition, and on PostgreSQL whether it fires and the body of its function.
INSTALLED: Final = {
    "sqlite": f"SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE '{PREFIX}%'",  # noqa: S608 # nosec B608
    "postgresql": (
        "SELECT tgname, relname, pg_get_triggerdef(pg_trigger.oid), tgenabled IN ('O', 'A'), prosrc"  # noqa: S608 # nosec B608
        " FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid"
        f" WHERE pg_table_is_visible(pg_class.oid) AND left(tgname, {len(PREFIX)}) = '{PREFIX}'"
    ),
}
LOG_BODY: Final = f"SELECT prosrc FROM pg_proc WHERE proname = '{LOG_FUNCTION}' AND pg_function_is_visible(oid)"  # noqa: S608 # nosec B608

_POSTGRESQL: Final = re.compile(
    r"CREATE (?:CONSTRAINT )?TRIGGER \S+ AFTER (UPDATE|DELETE|INSERT|TRUNCATE) ON \S+ "
    r"(?:DEFERRABLE INITIALLY DEFERRED )?FOR EACH (?:ROW|STATEMENT) (?:WHEN \((.*)\) )?EXECUTE FUNCTION \S+\(\)\Z",
    re.DOTALL,
)
_SQLITE: Final = re.compile(
    r'CREATE TRIGGER \S+ (AFTER|BEFORE) (UPDATE|DELETE|INSERT) ON "\w+" (?:WHEN (.*?) )?(BEGIN /\* format .*END)\Z', re.DOTALL
)
_CHANGED: Final = re.compile(r'\bOLD\."?(\w+)"? IS (?:NOT|DISTINCT FROM) NEW\."?\1\b"?', re.IGNORECASE)
_REPLACED: Final = re.compile(r'"(\w+)" = NEW\."\1"')
_FORMAT: Final = re.compile(r"(?:--|/\*) format (\d+)\b")


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed trigger, and what it covers: nothing if it is disabled, or if its definition is not one of ours."""

    table: str
    name: str
    event: str = ""
    columns: frozenset[str] = frozenset()
    every_column: bool = False
    outdated: bool = False  # an older version's: it writes no log

    def covers(self, wanted: Trigger) -> bool:
        """Return whether it fires for each change for which the wanted one does."""
        if (self.table, self.event) != (wanted.table, wanted.event):
            return False
        return self.every_column or self.columns >= wanted.columns


def read_installed(vendor: str, rows: Iterable[tuple[Any, ...]], log_body: str | None) -> list[Installed]:
    """Return the installed triggers from the rows of INSTALLED, and for PostgreSQL that of LOG_BODY."""
    if vendor == "sqlite":
        bodies = {trigger.name: _SQLITE.match(trigger.statement) for trigger in triggers(vendor)}
        known = {(trigger.table, trigger.event): (bodies[trigger.name] or [""] * 5)[4] for trigger in triggers(vendor)}
        return [_sqlite_installed(name, table, text, known) for name, table, text in rows]
    return [_postgresql_installed(*row, log_body=log_body) for row in rows]


def _sqlite_installed(name: str, table: str, text: str, known: dict[tuple[str, str], str]) -> Installed:
    found = _SQLITE.match(text)
    if found is None:
        return Installed(table, name, outdated=_FORMAT.search(text) is None)
    when, condition, body = found[2].lower(), found[3] or "", found[4]
    event = "replace" if found[1] == "BEFORE" else when
    if not _satisfies(body, known.get((table, event), "")):
        return Installed(table, name)
    if event == "replace":
        return Installed(table, name, event, frozenset(_REPLACED.findall(condition)))
    return _with_condition(table, name, event, condition)


def _postgresql_installed(  # pragma: no cover - the PostgreSQL pass runs it
    name: str, table: str, definition: str, fires: bool, body: str, *, log_body: str | None
) -> Installed:
    found, bodies = _POSTGRESQL.match(definition), function_bodies()
    if found is None or not fires or not _satisfies(body, bodies[FUNCTION]):
        return Installed(table, name)
    if log_body is None or not _satisfies(log_body, bodies[LOG_FUNCTION]):
        return Installed(table, name)
    condition = re.sub(
        r"::[a-z]+(?: [a-z]+)*|[()]", "", found[2] or ""
    )  # as in ((old.name)::text IS DISTINCT FROM (new.name)::text)
    return _with_condition(table, name, found[1].lower(), condition)


def _with_condition(table: str, name: str, event: str, condition: str) -> Installed:
    """Return a trigger that fires when one of some columns has changed. With any other condition it covers nothing."""
    if re.sub(r"\s|\bOR\b", "", _CHANGED.sub("", condition)):
        return Installed(table, name)
    return Installed(table, name, event, frozenset(_CHANGED.findall(condition)), every_column=not condition)


def _satisfies(body: str, ours: str) -> bool:
    """Return whether a body does what ours does: it is the same, or of a later version."""
    found = _FORMAT.search(body)
    return body == ours or (found is not None and int(found[1]) > FORMAT)


def lacking(vendor: str, found: list[Installed]) -> list[Trigger]:
    """Return the triggers whose changes none of the installed ones covers."""
    return [wanted for wanted in triggers(vendor) if not any(each.covers(wanted) for each in found)]


def installed(on: BaseDatabaseWrapper) -> list[Installed]:
    """Return the installed triggers. Raises a database error."""
    with on.cursor() as cursor:
        cursor.execute(INSTALLED[on.vendor])
        rows, log_body = cursor.fetchall(), None
        if on.vendor != "sqlite":
            cursor.execute(LOG_BODY)
            log_body = next((body for (body,) in cursor.fetchall()), None)
    return read_installed(on.vendor, rows, log_body)


def missing(on: BaseDatabaseWrapper = connection) -> list[str]:
    """Return the tables that lack a trigger, so that their changes would go unnoticed. Raises a database error."""
    return sorted({trigger.table for trigger in lacking(on.vendor, installed(on))})


def install(on: BaseDatabaseWrapper) -> None:
    """Create missing triggers, and drop those that the new ones replace. Does nothing while a table does not exist."""
    tables = set(on.introspection.table_names())
    if not {TABLE, LOG, *(table.name for table in watched_tables())} <= tables:
        return
    found = installed(on)
    wanted = lacking(on.vendor, found)
    if not wanted and PolicyRevision.objects.using(on.alias).exists():
        return
    with transaction.atomic(using=on.alias), on.cursor() as cursor:
        if on.vendor != "sqlite":
            _prepare_postgresql(cursor)
            found = installed(on)
            wanted = lacking(on.vendor, found)
        for trigger in _replaced(wanted, found):
            cursor.execute(f'DROP TRIGGER "{trigger.name}"' + ("" if on.vendor == "sqlite" else f' ON "{trigger.table}"'))
        for new in wanted:
            cursor.execute(new.statement)
        change_revision(on)


def _prepare_postgresql(cursor: Any) -> None:  # pragma: no cover - the PostgreSQL pass runs it
    """Create the functions, unless a later version did, and enable the triggers that are disabled."""
    cursor.execute("SELECT quote_ident(current_schema())")
    statements, bodies = function_statements(cursor.fetchone()[0]), function_bodies()
    for name, body in bodies.items():
        cursor.execute("SELECT prosrc FROM pg_proc WHERE proname = %s AND pg_function_is_visible(oid)", [name])
        if not any(_satisfies(existing, body) for (existing,) in cursor.fetchall()):
            cursor.execute(statements[name])
    cursor.execute(INSTALLED["postgresql"])
    for name, table, _, fires, _ in cursor.fetchall():
        if not fires:
            cursor.execute(f'ALTER TABLE "{table}" ENABLE TRIGGER "{name}"')


def _replaced(wanted: list[Trigger], found: list[Installed]) -> Iterator[Installed]:
    """Yield the installed triggers that an older version made, or that fire for nothing but what the wanted ones fire for."""
    for each in found:
        same = [trigger for trigger in wanted if (trigger.table, trigger.event) == (each.table, each.event)]
        narrower = not each.every_column and any(each.columns <= trigger.columns for trigger in same)
        if each.outdated or narrower or any(each.name == trigger.name for trigger in wanted):
            yield each


def change_revision(on: BaseDatabaseWrapper = connection, kind: str = EVERYTHING, key: str = "") -> None:
    """Log a change that no trigger sees: one that depends on a setting, as a lockout does. Without a kind, of everything."""
    with on.cursor() as cursor:
        if on.vendor != "sqlite":
            cursor.execute(f"SELECT {LOG_FUNCTION}(%s, %s)", [kind, key])  # nosec B608
            return
        with transaction.atomic(using=on.alias):
            for statement in sqlite_steps("%s", "%s"):
                cursor.execute(statement, [kind, key] if "%s" in statement else [])


def before_migrate(sender: Any, using: str, plan: list[Any], **kwargs: Any) -> None:  # noqa: ARG001 - Django's signature
    """Drop the triggers of an SQLite file before migrations change it.

    To change an SQLite table, Django makes a new one, drops the old one, and gives its name to the new one. SQLite refuses the
    last step while triggers of other tables name the dropped one. Until `after_migrate`, readers see that triggers are missing
    and use no cached answer.
    """
    from django.db import connections

    on = connections[using]
    if on.vendor != "sqlite" or not plan:
        return
    with transaction.atomic(using=using):
        for trigger in installed(on):
            on.cursor().execute(f'DROP TRIGGER "{trigger.name}"')


def after_migrate(sender: Any, using: str, **kwargs: Any) -> None:  # noqa: ARG001 - Django's signature
    """Install the triggers that are missing."""
    from django.db import connections

    install(connections[using])
