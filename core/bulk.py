"""Changes of many rows, prepared before the transaction, so that a lock is held only while the database writes.

Django prepares a row for the database in ten times the time that the database needs to write it.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar, cast

from django.db import connection, models

T = TypeVar("T")
AT_ONCE: Final = 500  # rows of an UPDATE, and values of an IN list


class Insert:
    """New rows of one model, ready to be inserted. `save` of the model is not called, and the rows get no primary key."""

    def __init__(self, rows: Sequence[models.Model]) -> None:
        self._model = type(rows[0]) if rows else None
        fields = [field for field in _fields(rows) if not field.primary_key]
        self._columns = [field.column for field in fields]
        self._values = [tuple(field.get_db_prep_save(field.pre_save(row, True), connection) for field in fields) for row in rows]

    def run(self) -> None:
        """Insert the rows. Raises a database error, also for a violated constraint."""
        if self._model is None:
            return
        table, columns = _quoted(self._model._meta.db_table), ", ".join(map(_quoted, self._columns))
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                marks = ", ".join(["%s"] * len(self._columns))
                cursor.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", self._values)  # noqa: S608  # nosec B608
                return
            with connection.wrap_database_errors, cast(Any, cursor).copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for values in self._values:
                    copy.write_row(values)


class Update:
    """New values of stored rows of one model, ready to be written to the columns of `fields`.

    `before` has the same rows as they were read. A row that was changed or deleted since then is not written.
    """

    def __init__(self, rows: Sequence[models.Model], before: Sequence[models.Model], fields: Sequence[str]) -> None:
        self._number = len(rows)
        self._statements = [_update(part, fields) for part in batches(list(zip(rows, before, strict=True)))]

    def run(self) -> bool:
        """Update the rows, and return whether all of them were written. Raises a database error."""
        with connection.cursor() as cursor:
            written = 0
            for statement, values in self._statements:
                cursor.execute(statement, values)
                written += cursor.rowcount
        return written == self._number


class Delete:
    """Deletes rows of one model by their keys. Rows that refer to them must be deleted in the same transaction."""

    def __init__(self, model: type[models.Model], keys: Sequence[int]) -> None:
        self._table, self._key = _quoted(model._meta.db_table), _quoted(str(model._meta.pk.column))
        self._keys = keys

    def run(self) -> None:
        """Delete the rows. Raises a database error."""
        with connection.cursor() as cursor:
            for part in batches(self._keys):
                marks = ", ".join(["%s"] * len(part))
                cursor.execute(f"DELETE FROM {self._table} WHERE {self._key} IN ({marks})", part)  # noqa: S608 - names of models alone # nosec B608


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield the items in parts that fit into one statement."""
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]


def _update(rows: Sequence[tuple[models.Model, models.Model]], names: Sequence[str]) -> tuple[str, list[Any]]:
    meta = type(rows[0][0])._meta
    fields = [field for field in meta.concrete_fields if field.name in names]
    values = [[row.pk, *(_value(row, f) for f in fields), *(_value(before, f) for f in fields)] for row, before in rows]
    numbers = range(1, len(values[0]) + 1)
    if connection.vendor == "sqlite":
        marks = f"({', '.join(['%s'] * len(numbers))})"
        source, parameters = f"(VALUES {', '.join([marks] * len(rows))}) AS new", [value for row in values for value in row]
    else:  # an array for each column: Python would have to quote single values one by one
        arrays = ", ".join(f"%s::{field.rel_db_type(connection)}[]" for field in (meta.pk, *fields, *fields))
        source = f"unnest({arrays}) AS new ({', '.join(f'column{n}' for n in numbers)})"
        parameters = [list(column) for column in zip(*values, strict=True)]
    columns = [_quoted(str(field.column)) for field in fields]
    sets = ", ".join(f"{column} = new.column{n}" for n, column in enumerate(columns, 2))
    table = _quoted(meta.db_table)
    equals = "IS" if connection.vendor == "sqlite" else "IS NOT DISTINCT FROM"  # also for NULL
    same = " AND ".join(f"{table}.{column} {equals} new.column{n}" for n, column in enumerate(columns, 2 + len(columns)))
    key = _quoted(str(meta.pk.column))
    statement = f"UPDATE {table} SET {sets} FROM {source} WHERE {table}.{key} = new.column1 AND {same}"  # noqa: S608 - names of models alone # nosec B608
    return statement, parameters


def _value(row: models.Model, field: Any) -> Any:
    return field.get_db_prep_save(getattr(row, field.attname), connection)


def _fields(rows: Sequence[models.Model]) -> Sequence[Any]:
    return type(rows[0])._meta.concrete_fields if rows else ()


def _quoted(name: str) -> str:
    return connection.ops.quote_name(name)
