"""The tables that the policy revision watches: those of every model that declares `watched`."""

from dataclasses import dataclass

from django.apps import apps
from django.db import models

from core.watched import Watched


@dataclass(frozen=True, slots=True)
class WatchedTable:
    """One watched table: its model and what the model declares."""

    model: type[models.Model]
    watched: Watched

    @property
    def name(self) -> str:
        return self.model._meta.db_table

    @property
    def key_column(self) -> str:
        """The column whose value the log has of a changed row, or ""."""
        key = self.watched.key
        return str(self.model._meta.get_field(key).column) if key else ""  # type: ignore[union-attr]

    def columns(self) -> list[str]:
        """Return the columns on which decisions depend."""
        return [str(field.column) for field in self.model._meta.concrete_fields if field.name not in self.watched.ignored_fields]

    def unique(self) -> list[str]:
        """Return the columns with a unique constraint of their own."""
        return [str(field.column) for field in self.model._meta.concrete_fields if field.unique]


def watched_tables() -> list[WatchedTable]:
    """Return the watched tables, in the order of the installed apps. Raises ValueError if a declared field does not exist."""
    tables = [
        WatchedTable(model, watched)
        for model in apps.get_models()
        if isinstance(watched := getattr(model, "watched", None), Watched)
    ]
    for table in tables:
        declared = table.watched.ignored_fields | ({table.watched.key} - {""})
        if unknown := declared - {field.name for field in table.model._meta.concrete_fields}:
            raise ValueError(f"{table.model.__name__}.watched names fields that do not exist: {', '.join(sorted(unknown))}.")
    return tables
