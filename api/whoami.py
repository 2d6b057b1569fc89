"""The index of the API, the caller, and the list of permissions."""

from typing import Any, ClassVar

from django.urls import reverse
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.base import KIND_CHOICES, METHOD_CHOICES, ApiViewSet
from api.permissions import AUTHENTICATED, Need
from rbac.permissions import MEANINGS
from rbac.principals import Principal

_LINKS = {
    "whoami": "whoami",
    "permissions": "permission-list",
    "users": "user-list",
    "service_accounts": "service-account-list",
    "roles": "role-list",
    "group_roles": "group-role-list",
    "routes": "route-list",
    "packs": "pack-list",
    "explain": "explain",
    "audit_events": "audit-event-list",
    "openapi": "openapi-json",
    "docs": "docs",
}


class IndexView(ApiViewSet):
    needs: ClassVar[dict[str, Need]] = {"show": AUTHENTICATED}
    pagination_class = None
    filter_backends = ()

    @extend_schema(
        operation_id="index",
        summary="List the resources",
        description="Returns the path of each resource, by name.",
        responses={200: {"type": "object", "additionalProperties": {"type": "string"}}},
    )
    def show(self, request: Request) -> Response:  # noqa: ARG002 - DRF's signature
        return Response({name: reverse(f"api:{view}") for name, view in _LINKS.items()})


class WhoamiSerializer(serializers.Serializer[Principal]):
    """The authenticated caller."""

    kind = serializers.ChoiceField(choices=KIND_CHOICES, help_text="What kind of caller you are.")
    uid = serializers.CharField(help_text="Your id.")
    name = serializers.CharField(help_text="Your username, or the name of the service account.")
    display_name = serializers.CharField(allow_blank=True, help_text="The name that pages show, or empty.")
    email = serializers.CharField(allow_blank=True, help_text="Your e-mail address, or empty.")
    role = serializers.CharField(help_text="The name of your effective role.")
    permissions = serializers.SerializerMethodField(help_text="The names of your permissions, sorted.")
    method = serializers.ChoiceField(choices=METHOD_CHOICES, help_text="How you were authenticated.")
    groups = serializers.ListField(
        child=serializers.CharField(), help_text="The groups that the authentication proxy sent with this request."
    )
    token_key_id = serializers.CharField(allow_blank=True, help_text="The key id of the token of this request, or empty.")
    identity = serializers.CharField(help_text="The name that the upstream receives in the identity header.")

    def get_permissions(self, principal: Principal) -> list[str]:
        return sorted(principal.permissions)


class WhoamiView(ApiViewSet):
    needs: ClassVar[dict[str, Need]] = {"show": AUTHENTICATED}
    serializer_class = WhoamiSerializer
    pagination_class = None
    filter_backends = ()

    @extend_schema(
        operation_id="whoami",
        summary="Get the caller",
        description="Returns who is authenticated, how, and with which role and permissions.",
        responses=WhoamiSerializer,
    )
    def show(self, request: Request) -> Response:  # noqa: ARG002
        return Response(WhoamiSerializer(self.principal).data)


class PermissionSerializer(serializers.Serializer[Any]):
    """A permission that a role can have."""

    name = serializers.CharField(help_text="The name, such as `users:read`.")
    meaning = serializers.CharField(help_text="What the permission allows.")


@extend_schema_view(list=extend_schema(summary="List permissions", description="Returns all permissions, by name."))
class PermissionViewSet(mixins.ListModelMixin, ApiViewSet):
    needs: ClassVar[dict[str, Need]] = {"list": AUTHENTICATED}
    serializer_class = PermissionSerializer
    filter_backends = ()

    def get_queryset(self) -> Any:
        return [{"name": str(permission), "meaning": meaning} for permission, meaning in sorted(MEANINGS.items())]
