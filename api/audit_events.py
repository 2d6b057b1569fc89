"""The audit log, to read."""

from datetime import UTC, datetime
from typing import Any, ClassVar

from django_filters import CharFilter, IsoDateTimeFilter
from django_filters.rest_framework import FilterSet
from rest_framework import mixins, serializers

from api.base import Resource
from api.permissions import Need
from audit.models import Entry
from rbac.permissions import Permission


class EntryOut(serializers.ModelSerializer[Entry]):
    """One thing that happened."""

    data = serializers.DictField(help_text="Old and new values; never a secret.")  # type: ignore[assignment]

    class Meta:
        model = Entry
        fields = ("id", "at", "event", "actor", "actor_uid", "method", "peer", "target", "reason", "reference", "data")
        read_only_fields = fields


class Moment(IsoDateTimeFilter):  # type: ignore[misc]
    """Filters by a time, in UTC: PostgreSQL knows no displacement beyond 15 hours, and Python knows 23."""

    def filter(self, qs: Any, value: datetime | None) -> Any:
        """Return the rows on this side of the time. Raises ValidationError for one that no calendar of ours has."""
        try:
            return super().filter(qs, value and value.astimezone(UTC))
        except OverflowError:
            raise serializers.ValidationError("A time is out of range.") from None


class Entries(FilterSet):  # type: ignore[misc]
    """Filters of the audit log."""

    event = CharFilter(label="The event, such as token.issued.")
    actor = CharFilter(label="Who did it, by name.")
    target = CharFilter(label="What it was done to.")
    peer = CharFilter(label="The client's address.")
    reference = CharFilter(label="The id that a refused caller was told.")
    since = Moment(field_name="at", lookup_expr="gte", label="Not before this time (ISO 8601).")
    until = Moment(field_name="at", lookup_expr="lt", label="Before this time (ISO 8601).")

    class Meta:
        model = Entry
        fields: ClassVar[list[str]] = []


class EntryViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Resource):
    """Audit entries, the newest first. Nobody changes or deletes one."""

    needs: ClassVar[dict[str, Need]] = {"list": Permission.AUDIT_READ, "retrieve": Permission.AUDIT_READ}
    queryset = Entry.objects.order_by("-at", "-id")
    serializer_class = EntryOut
    lookup_value_regex = "[0-9]{1,18}"
    filterset_class = Entries
    search_fields = ("actor", "target", "reason")
    ordering_fields = ("at",)
    ordering = ("-at", "-id")
