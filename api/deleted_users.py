"""Deleted users who can return through single sign-on: list them, and block or unblock their names."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.filters import DeletedUserFilterSet
from accounts.models import DeletedUser
from accounts.services import deleted_users
from api.base import NUMBER, ApiViewSet
from api.permissions import Need
from api.schema import describe_list_and_retrieve
from api.strict import RequestSerializer
from rbac.permissions import Permission

_BLOCKED = "Whether single sign-on refuses the name. If not, SkyAuth creates the user again at their next request."


class DeletedUserSerializer(serializers.ModelSerializer[DeletedUser]):
    """The name of a deleted user."""

    class Meta:
        model = DeletedUser
        fields = ("id", "username", "role", "blocked", "deleted_at", "deleted_by")
        read_only_fields = fields
        extra_kwargs: ClassVar[dict[str, Any]] = {
            "id": {"help_text": "The number of the entry."},
            "username": {"help_text": "The name of the deleted user."},
            "role": {"help_text": "The role of the user before the deletion. A user who returns gets no greater one by default."},
            "blocked": {"help_text": _BLOCKED},
            "deleted_at": {"help_text": "When the user was deleted."},
            "deleted_by": {"help_text": "Who deleted the user."},
        }


class DeletedUserUpdateSerializer(RequestSerializer):
    """The field of a deleted user that can be changed."""

    blocked = serializers.BooleanField(required=False, help_text=_BLOCKED)


@describe_list_and_retrieve(
    "deleted users",
    "a deleted user",
    of_list="Returns the deleted users who can return through single sign-on, by name.",
    of_one="Returns the name of one deleted user.",
)
class DeletedUserViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, ApiViewSet):
    """Deleted users, by number: a name can contain slashes, which proxies treat differently in a path."""

    needs: ClassVar[dict[str, Need]] = {
        "list": Permission.USERS_READ,
        "retrieve": Permission.USERS_READ,
        "partial_update": Permission.USERS_WRITE,
    }
    bodies: ClassVar[dict[str, type[RequestSerializer]]] = {"partial_update": DeletedUserUpdateSerializer}
    queryset = DeletedUser.objects.order_by("username")
    serializer_class = DeletedUserSerializer
    lookup_value_regex = NUMBER
    path_descriptions = {"id": "The number of the entry."}
    filterset_class = DeletedUserFilterSet
    ordering_fields = ("username", "deleted_at")
    ordering = ("username",)

    @extend_schema(
        summary="Update a deleted user",
        description="Lets single sign-on refuse the name of a deleted user, or accept it again. You need the permissions of the "
        "role that the user had.",
        responses=DeletedUserSerializer,
    )
    def partial_update(self, request: Request, pk: str) -> Response:  # noqa: ARG002 - DRF's signature
        row = self.get_object()
        changes = self.body(DeletedUserSerializer(row).data)
        if "blocked" in changes:
            row = deleted_users.set_blocked(actor=self.principal, username=row.username, blocked=changes["blocked"])
        return Response(DeletedUserSerializer(row).data)
