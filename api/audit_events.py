"""The audit log, to read."""

from typing import ClassVar

from rest_framework import mixins, serializers

from api.base import Resource
from api.permissions import Need
from audit.filters import EntryFilterSet
from audit.models import Entry
from rbac.permissions import Permission


class EntryOut(serializers.ModelSerializer[Entry]):
    """One thing that happened."""

    data = serializers.DictField(help_text="Old and new values; never a secret.")  # type: ignore[assignment]

    class Meta:
        model = Entry
        fields = ("id", "at", "event", "actor", "actor_uid", "method", "peer", "target", "reason", "reference", "data")
        read_only_fields = fields


class EntryViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Resource):
    """Audit entries, the newest first. Nobody changes or deletes one."""

    needs: ClassVar[dict[str, Need]] = {"list": Permission.AUDIT_READ, "retrieve": Permission.AUDIT_READ}
    queryset = Entry.objects.order_by("-at", "-id")
    serializer_class = EntryOut
    lookup_value_regex = "[0-9]{1,18}"
    filterset_class = EntryFilterSet
    ordering_fields = ("at",)
    ordering = ("-at", "-id")
