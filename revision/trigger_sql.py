"""The SQL of the triggers of the policy revision, for SQLite and for PostgreSQL."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from accounts.models import PolicyChange, PolicyRevision
from core.watched import EVERYTHING
from revision.registry import WatchedTable, watched_tables

# ruff: noqa: S608 - names of ours alone

PREFIX: Final = "skyauth_mark_"
TABLE: Final = PolicyRevision._meta.db_table
LOG: Final = PolicyChange._meta.db_table
# The version of what the triggers write. Triggers of a higher format satisfy this version, so a change of the format must keep
# the columns that older versions read. A change of the SQL needs a new format, or `migrate` would not replace the older SQL.
FORMAT: Final = 2
KEPT: Final = 1_000  # numbers in the log
_MAX_LOGGED: Final = (
    200  # rows of one transaction on PostgreSQL, which writes them while it holds the lock; more are "everything"
)


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger: the changes that it covers, and the statement that creates it.

    `event` is "update", "delete", "insert", "truncate", or "replace" for SQLite's INSERT OR REPLACE. `columns` are those whose
    change fires it (`update`), or that find the replaced row (`replace`).
    """

    table: str
    event: str
    columns: frozenset[str]
    name: str
    statement: str


def _trigger(table: WatchedTable, event: str, columns: list[str], text: str) -> Trigger:
    """Return the trigger. Its name contains a digest of its text, so a changed trigger has another name."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    name = f"{PREFIX}{table.name}_{event}_{digest}"
    return Trigger(table.name, event, frozenset(columns), name, text.format(name=name))


def triggers(vendor: str) -> list[Trigger]:
    """Return the triggers of all watched tables; `vendor` is "sqlite" or "postgresql"."""
    make = _sqlite if vendor == "sqlite" else _postgresql
    return [trigger for table in watched_tables() for trigger in make(table)]


SQLITE_VALUE: Final = "lower(hex(randomblob(16)))"


def sqlite_steps(kind: str, key: str) -> tuple[str, ...]:
    """Return the statements that log one change: `kind` and `key` are SQL expressions, each used once."""
    # A deleted revision begins again, with a value that is in no chain.
    begin = (
        f"INSERT INTO {TABLE} (id, number, mark) SELECT 1, coalesce((SELECT max(number) FROM {LOG}), 0), {SQLITE_VALUE}"
        f" WHERE NOT EXISTS (SELECT 1 FROM {TABLE} WHERE id = 1)"  # nosec B608
    )
    log = (
        f"INSERT INTO {LOG} (number, position, previous, value, kind, key)"
        f" SELECT number + 1, 0, mark, {SQLITE_VALUE}, {kind}, {key} FROM {TABLE} WHERE id = 1"
        " ON CONFLICT (number, position) DO UPDATE"
        " SET previous = excluded.previous, value = excluded.value, kind = excluded.kind, key = excluded.key"  # nosec B608
    )
    count = (
        f"UPDATE {TABLE} SET number = number + 1,"
        f" mark = (SELECT value FROM {LOG} AS log WHERE log.number = {TABLE}.number + 1 AND log.position = 0) WHERE id = 1"  # nosec B608
    )
    trim = f"DELETE FROM {LOG} WHERE number <= (SELECT number FROM {TABLE} WHERE id = 1) - {KEPT}"  # nosec B608
    return begin, log, count, trim


def _sqlite(table: WatchedTable) -> Iterator[Trigger]:
    def body(row: str) -> str:
        key = table.key_column
        steps = sqlite_steps(f"'{table.watched.kind}'", f'CAST({row}."{key}" AS TEXT)' if row and key else "''")
        return f"BEGIN /* format {FORMAT} */ {'; '.join(steps)}; END"

    columns, unique = table.columns(), table.unique()
    changed = " OR ".join(f'OLD."{name}" IS NOT NEW."{name}"' for name in columns)
    update = f'CREATE TRIGGER {{name}} AFTER UPDATE ON "{table.name}" WHEN {changed} {body("OLD")}'
    yield _trigger(table, "update", columns, update)
    yield _trigger(table, "delete", [], f'CREATE TRIGGER {{name}} AFTER DELETE ON "{table.name}" {body("OLD")}')
    if table.watched.on_insert:
        yield _trigger(table, "insert", [], f'CREATE TRIGGER {{name}} AFTER INSERT ON "{table.name}" {body("NEW")}')
        return
    # INSERT OR REPLACE deletes rows without firing the trigger above.
    same = " OR ".join(f'"{name}" = NEW."{name}"' for name in unique)
    replaces = f'WHEN EXISTS (SELECT 1 FROM "{table.name}" WHERE {same})'  # nosec B608
    steps = "; ".join(sqlite_steps(f"'{EVERYTHING}'", "''"))
    replace = f'CREATE TRIGGER {{name}} BEFORE INSERT ON "{table.name}" {replaces} BEGIN /* format {FORMAT} */ {steps}; END'
    yield _trigger(table, "replace", unique, replace)


# The names of older versions: a rolling upgrade replaces the function, and leaves the triggers as they are.
FUNCTION: Final = f"{PREFIX}renew"
LOG_FUNCTION: Final = f"{PREFIX}log"
_VALUE: Final = "replace(gen_random_uuid()::text, '-', '')"


def _postgresql(table: WatchedTable) -> Iterator[Trigger]:  # pragma: no cover - the PostgreSQL pass runs it
    """Defer to the commit: the revision's row is then the last lock that a transaction takes, and is held for a short time.

    The lock is held until the commit is visible, so the numbers become visible in their order.
    """
    columns = table.columns()
    changed = " OR ".join(f'OLD."{name}" IS DISTINCT FROM NEW."{name}"' for name in columns)
    deferred = f'ON "{table.name}" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW'
    run = f"EXECUTE FUNCTION {FUNCTION}()"
    update = f"CREATE CONSTRAINT TRIGGER {{name}} AFTER UPDATE {deferred} WHEN ({changed}) {run}"
    yield _trigger(table, "update", columns, update)
    yield _trigger(table, "delete", [], f"CREATE CONSTRAINT TRIGGER {{name}} AFTER DELETE {deferred} {run}")
    if table.watched.on_insert:
        yield _trigger(table, "insert", [], f"CREATE CONSTRAINT TRIGGER {{name}} AFTER INSERT {deferred} {run}")
    yield _trigger(table, "truncate", [], f'CREATE TRIGGER {{name}} AFTER TRUNCATE ON "{table.name}" FOR EACH STATEMENT {run}')


def function_bodies() -> dict[str, str]:  # pragma: no cover - the PostgreSQL pass runs it
    """Return the body of each PostgreSQL function, by its name."""
    cases = "".join(
        f"    ELSIF TG_TABLE_NAME = '{table.name}' THEN\n"
        f"        PERFORM {LOG_FUNCTION}('{table.watched.kind}', "
        + (f'coalesce(OLD."{table.key_column}", NEW."{table.key_column}")::text' if table.key_column else "''")
        + ");\n"
        for table in watched_tables()
        if table.watched.kind != EVERYTHING
    )
    return {
        # The setting has, of the current transaction: its id, its number, the values before and after, and the rows logged.
        LOG_FUNCTION: f"""
-- format {FORMAT}
DECLARE
    mine text[] := string_to_array(current_setting('skyauth.change', true), ' ');
    counter bigint;
    before text;
    after text;
    logged int := 0;
BEGIN
    IF mine[1] = txid_current()::text THEN
        counter := mine[2];
        before := mine[3];
        after := mine[4];
        logged := mine[5];
        IF logged >= {_MAX_LOGGED} THEN
            RETURN;
        END IF;
    ELSE
        after := {_VALUE};
        SELECT number, mark INTO counter, before FROM {TABLE} WHERE id = 1 FOR UPDATE;
        IF NOT FOUND THEN
            INSERT INTO {TABLE} (id, number, mark)
            VALUES (1, coalesce((SELECT max(number) FROM {LOG}), 0), {_VALUE}) ON CONFLICT (id) DO NOTHING;
            SELECT number, mark INTO counter, before FROM {TABLE} WHERE id = 1 FOR UPDATE;
        END IF;
        counter := counter + 1;
        UPDATE {TABLE} SET number = counter, mark = after WHERE id = 1;
        IF counter % 50 = 0 THEN
            DELETE FROM {LOG} WHERE number <= counter - {KEPT};
        END IF;
    END IF;
    logged := logged + 1;
    INSERT INTO {LOG} (number, position, previous, value, kind, key)
    VALUES (counter, logged, before, after, CASE logged WHEN {_MAX_LOGGED} THEN '{EVERYTHING}' ELSE what END, which)
    ON CONFLICT (number, position) DO UPDATE
    SET previous = excluded.previous, value = excluded.value, kind = excluded.kind, key = excluded.key;
    PERFORM set_config('skyauth.change', concat_ws(' ', txid_current(), counter, before, after, logged), true);
END
""",  # nosec B608
        FUNCTION: f"""
-- format {FORMAT}
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM {LOG_FUNCTION}('{EVERYTHING}', '');
{cases}    ELSE
        PERFORM {LOG_FUNCTION}('{EVERYTHING}', '');
    END IF;
    RETURN NULL;
END
""",
    }


def function_statements(schema: str) -> dict[str, str]:  # pragma: no cover - the PostgreSQL pass runs it
    """Return the statements that create the PostgreSQL functions, by name, in the schema of the tables, a quoted name."""
    bodies = function_bodies()
    secure = f"LANGUAGE plpgsql SET search_path = {schema}, pg_temp"
    return {
        LOG_FUNCTION: f"CREATE OR REPLACE FUNCTION {LOG_FUNCTION}(what text, which text)"
        f" RETURNS void {secure} AS $${bodies[LOG_FUNCTION]}$$",
        FUNCTION: f"CREATE OR REPLACE FUNCTION {FUNCTION}() RETURNS trigger {secure} AS $${bodies[FUNCTION]}$$",
    }
