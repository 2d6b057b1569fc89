"""Where everything is, who one is, and what can be permitted."""

from typing import Any, ClassVar

from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.base import Resource
from api.permissions import ANYBODY, Need
from rbac.permissions import MEANINGS
from rbac.principals import Kind, Method, Principal

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


class IndexView(Resource):
    """The first page."""

    needs: ClassVar[dict[str, Need]] = {"show": ANYBODY}
    pagination_class = None
    filter_backends = ()

    @extend_schema(
        responses={200: {"type": "object", "additionalProperties": {"type": "string"}}},
        operation_id="index",
    )
    def show(self, request: Request) -> Response:  # noqa: ARG002 - DRF's signature
        """Return the paths of everything else."""
        return Response({name: reverse(f"api:{view}") for name, view in _LINKS.items()})


class WhoamiOut(serializers.Serializer[Principal]):
    """Who calls, as SkyAuth sees them."""

    kind = serializers.ChoiceField(choices=[(kind.value, kind.value) for kind in Kind])
    uid = serializers.CharField()
    name = serializers.CharField()
    display_name = serializers.CharField(allow_blank=True)
    email = serializers.CharField(allow_blank=True)
    role = serializers.CharField()
    permissions = serializers.SerializerMethodField()
    method = serializers.ChoiceField(choices=[(method.value, method.value) for method in Method])
    groups = serializers.ListField(child=serializers.CharField(), help_text="As the auth proxy named them just now.")
    token_key_id = serializers.CharField(allow_blank=True, help_text="Which token was shown, where one was.")
    identity = serializers.CharField(help_text="The name that an upstream hears.")

    def get_permissions(self, principal: Principal) -> list[str]:
        """Return the names, sorted."""
        return sorted(principal.permissions)


class WhoamiView(Resource):
    """Who calls."""

    needs: ClassVar[dict[str, Need]] = {"show": ANYBODY}
    serializer_class = WhoamiOut
    pagination_class = None
    filter_backends = ()

    @extend_schema(responses=WhoamiOut, operation_id="whoami")
    def show(self, request: Request) -> Response:  # noqa: ARG002
        """Return who calls and what they may do."""
        return Response(WhoamiOut(self.principal).data)


class PermissionOut(serializers.Serializer[Any]):
    """Something that can be permitted."""

    name = serializers.CharField()
    meaning = serializers.CharField()


class PermissionViewSet(mixins.ListModelMixin, Resource):
    """Everything that can be permitted."""

    needs: ClassVar[dict[str, Need]] = {"list": ANYBODY}
    serializer_class = PermissionOut
    filter_backends = ()

    def get_queryset(self) -> Any:
        """Return the permissions, sorted by name."""
        return [{"name": str(permission), "meaning": meaning} for permission, meaning in sorted(MEANINGS.items())]
