"""The audit log, read-only."""

from typing import Any, ClassVar

from rest_framework import mixins, serializers

from api.base import NUMBER, ApiViewSet
from api.permissions import Need
from api.schema import describe_list_and_retrieve
from audit.filters import EntryFilterSet
from audit.models import Entry
from rbac.permissions import Permission


class AuditEventSerializer(serializers.ModelSerializer[Entry]):
    """One event of the audit log."""

    data = serializers.DictField(help_text="Details, such as old and new values. Never a secret.")  # type: ignore[assignment]

    class Meta:
        model = Entry
        fields = ("id", "at", "event", "actor", "actor_uid", "method", "peer", "target", "reason", "reference", "data")
        read_only_fields = fields
        extra_kwargs: ClassVar[dict[str, Any]] = {
            "id": {"help_text": "The number of the entry."},
            "at": {"help_text": "When it happened."},
            "event": {"help_text": "The name of the event, such as `token.issued`."},
            "actor": {"help_text": "The name of the user, service account or command that caused the event."},
            "actor_uid": {"help_text": "The id of the actor, or empty."},
            "method": {"help_text": "How the actor was authenticated."},
            "peer": {"help_text": "The address of the client."},
            "target": {"help_text": "The object of the event, such as a username or a path."},
            "reason": {"help_text": "Why the request was denied or the change was made, or empty."},
            "reference": {"help_text": "The id of the decision, as the denied caller received it, or empty."},
        }


@describe_list_and_retrieve(
    "audit events",
    "an audit event",
    of_list="Returns the audit log, newest first. Entries cannot be changed or deleted.",
    of_one="Returns one entry of the audit log.",
)
class AuditEventViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, ApiViewSet):
    """The audit log."""

    needs: ClassVar[dict[str, Need]] = {"list": Permission.AUDIT_READ, "retrieve": Permission.AUDIT_READ}
    queryset = Entry.objects.order_by("-at", "-id")
    serializer_class = AuditEventSerializer
    lookup_value_regex = NUMBER
    path_descriptions = {"id": "The number of the entry."}
    filterset_class = EntryFilterSet
    ordering_fields = ("at",)
    ordering = ("-at", "-id")
