"""The audit log in the Django admin, read-only."""

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from audit.events import Event
from audit.models import Entry
from rbac.principals import Method


class EventFilter(admin.SimpleListFilter):
    """Filters by event. It lists every event, because a query for those that occur is slow on a large table."""

    title = "event"
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(event), str(event)) for event in Event]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Entry]) -> QuerySet[Entry]:
        return queryset.filter(event=self.value()) if self.value() else queryset


class MethodFilter(admin.SimpleListFilter):
    """Filters by how the actor was authenticated. It lists every method, for the same reason."""

    title = "method"
    parameter_name = "method"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(method), str(method)) for method in Method]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Entry]) -> QuerySet[Entry]:
        return queryset.filter(method=self.value()) if self.value() else queryset


@admin.register(Entry)
class EntryAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # not generic at run time
    list_display = ("at", "event", "actor", "method", "peer", "target", "reason")
    list_filter = (EventFilter, MethodFilter, "at")  # a `date_hierarchy` would read the whole table
    search_fields = ("actor", "target", "reason", "=reference")
    show_full_result_count = False
    sortable_by = ()
    fields = ("at", "event", "actor", "actor_uid", "method", "peer", "target", "reason", "reference", "data_shown")
    readonly_fields = ("data_shown",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: SkyAuth itself writes the entries."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Entry | None = None) -> bool:
        """Return False, also for admins."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Entry | None = None) -> bool:
        """Return False, also for admins."""
        return False

    @admin.display(description="data")
    def data_shown(self, entry: Entry) -> str:
        """Return the entry's data as indented JSON."""
        return format_html("<pre>{}</pre>", json.dumps(entry.data, indent=2, ensure_ascii=False, sort_keys=True))
