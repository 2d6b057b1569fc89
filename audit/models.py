"""Audit entries. Actor and target are text, so that an entry outlives the rows that it names."""

from datetime import datetime
from typing import Any, ClassVar, NoReturn

from django.db import models
from django.utils import timezone


class AppendOnly(Exception):
    """Raised on every change or deletion of an audit entry, except by `EntryQuerySet.prune`."""


class EntryQuerySet(models.QuerySet["Entry"]):
    """Can be read, appended to through `record`, and deleted from only through `prune`."""

    def update(self, **kwargs: Any) -> NoReturn:  # noqa: ARG002 - Django's signature
        raise AppendOnly("Audit entries are never changed.")

    def delete(self) -> NoReturn:
        raise AppendOnly("Audit entries are never deleted one by one. `manage.py prune` deletes old ones.")

    def prune(self, before: datetime, at_most: int) -> int:
        """Delete at most this many of the entries older than `before`; return how many. Only `manage.py prune` calls it."""
        keys = list(self.filter(at__lt=before).order_by("at").values_list("pk", flat=True)[:at_most])
        return models.QuerySet.delete(self.filter(pk__in=keys))[0]


class Entry(models.Model):
    """One event. Rows are only inserted: a database trigger rejects UPDATE (migration 0002)."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    event = models.CharField(max_length=64, db_index=True)
    actor = models.CharField(max_length=320, db_index=True, help_text="The name of the user or service account who did it.")
    actor_uid = models.CharField(max_length=64, blank=True, default="")
    method = models.CharField(max_length=16, blank=True, default="", help_text="How the actor was authenticated.")
    peer = models.CharField(max_length=64, blank=True, default="", help_text="The client's address.")
    target = models.CharField(
        max_length=512, blank=True, default="", db_index=True, help_text="The changed object, or the request."
    )
    reason = models.CharField(max_length=512, blank=True, default="")
    reference = models.CharField(
        max_length=16, blank=True, default="", db_index=True, help_text="The decision id that a denied caller received."
    )
    data = models.JSONField(default=dict, blank=True, help_text="Old and new values; never a secret.")

    objects: ClassVar[EntryQuerySet] = EntryQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        ordering = ("-at", "-id")
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.event} {self.target}".rstrip()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert the row. Raises AppendOnly for an existing one."""
        if not self._state.adding:
            raise AppendOnly("Audit entries are never changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002 - Django's signature
        raise AppendOnly("Audit entries are never deleted one by one. `manage.py prune` deletes old ones.")
