"""Roles, and the groups of the identity provider that give them."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.filters import GroupRoleFilterSet
from accounts.models import GroupRole
from accounts.services import groups
from api.base import Resource, Text, location
from api.etags import etag, matched
from api.permissions import Need
from api.schema import ETAG, IF_MATCH, LOCATION
from rbac import services
from rbac.filters import RoleFilterSet
from rbac.models import Role
from rbac.permissions import Permission

MAX_PRIORITY = 2_147_483_647  # PostgreSQL's integer


class RoleOut(serializers.ModelSerializer[Role]):
    """A role, with the permissions that it really gives."""

    permissions = serializers.SerializerMethodField()

    class Meta:
        model = Role
        fields = ("name", "description", "permissions", "builtin", "version")
        read_only_fields = fields

    def get_permissions(self, role: Role) -> list[str]:
        """Return the names, sorted."""
        return sorted(role.holds)


class RoleChange(serializers.Serializer[Any]):
    """What can be changed of a role."""

    description = Text(max_length=200, required=False, allow_blank=True)
    permissions = serializers.ListField(child=Text(max_length=64), required=False, max_length=100)


class RoleNew(RoleChange):
    """A new role."""

    name = Text(max_length=32)


class RoleViewSet(mixins.ListModelMixin, Resource):
    """Roles, by their name. Changing one needs If-Match."""

    needs: ClassVar[dict[str, Need]] = {
        "list": Permission.ROLES_READ,
        "retrieve": Permission.ROLES_READ,
        "create": Permission.ROLES_WRITE,
        "partial_update": Permission.ROLES_WRITE,
        "destroy": Permission.ROLES_WRITE,
    }
    queryset = Role.objects.order_by("name")
    serializer_class = RoleOut
    lookup_field = "name"
    lookup_value_regex = "[a-z][a-z0-9-]{0,31}"
    filterset_class = RoleFilterSet
    ordering_fields = ("name",)
    ordering = ("name",)

    @extend_schema(responses=RoleOut, parameters=[ETAG])
    def retrieve(self, request: Request, name: str) -> Response:  # noqa: ARG002 - DRF's signature
        """Return a role."""
        return _role(self.get_object())

    @extend_schema(request=RoleNew, responses={201: RoleOut}, parameters=[ETAG, LOCATION])
    def create(self, request: Request) -> Response:  # noqa: ARG002
        """Create a role."""
        role = services.create_role(actor=self.principal, **self.given(RoleNew))
        return _role(role, status=201, headers=location("role-detail", name=role.name))

    @extend_schema(request=RoleChange, responses=RoleOut, parameters=[ETAG, IF_MATCH])
    def partial_update(self, request: Request, name: str) -> Response:
        """Change a role."""
        role = self.get_object()
        version = role.version if matched(request, role.version) else None
        return _role(services.update_role(actor=self.principal, name=name, version=version, **self.given(RoleChange)))

    @extend_schema(responses={204: None}, parameters=[IF_MATCH])
    def destroy(self, request: Request, name: str) -> Response:
        """Delete a role that nobody holds."""
        role = self.get_object()
        version = role.version if matched(request, role.version) else None
        services.delete_role(actor=self.principal, name=name, version=version)
        return Response(status=204)


def _role(role: Role, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(RoleOut(role).data, status=status, headers={**(headers or {}), "ETag": etag(role.version)})


class GroupRoleOut(serializers.ModelSerializer[GroupRole]):
    """A group and the role that it gives."""

    role = serializers.CharField(source="role.name")

    class Meta:
        model = GroupRole
        fields = ("id", "group", "role", "priority")
        read_only_fields = fields


class GroupRoleChange(serializers.Serializer[Any]):
    """What can be changed of a group's role."""

    role = Text(max_length=32, required=False)
    priority = serializers.IntegerField(min_value=0, max_value=MAX_PRIORITY, required=False)


class GroupRoleNew(serializers.Serializer[Any]):
    """A group that shall give a role. Of a person's groups, the one with the lowest priority number decides."""

    group = Text(max_length=200)
    role = Text(max_length=32)
    priority = serializers.IntegerField(min_value=0, max_value=MAX_PRIORITY, default=100)


class GroupRoleViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Resource):
    """Which group gives which role, by a number: a group's name may have slashes, which no two proxies treat alike."""

    needs: ClassVar[dict[str, Need]] = {
        "list": Permission.ROLES_READ,
        "retrieve": Permission.ROLES_READ,
        "create": Permission.ROLES_WRITE,
        "partial_update": Permission.ROLES_WRITE,
        "destroy": Permission.ROLES_WRITE,
    }
    queryset = GroupRole.objects.select_related("role").order_by("priority", "group")
    serializer_class = GroupRoleOut
    lookup_value_regex = "[0-9]{1,18}"
    filterset_class = GroupRoleFilterSet
    ordering_fields = ("group", "priority", "role")
    ordering = ("priority", "group")

    @extend_schema(request=GroupRoleNew, responses={201: GroupRoleOut}, parameters=[LOCATION])
    def create(self, request: Request) -> Response:  # noqa: ARG002
        """Let a group give a role."""
        row = groups.create_group_role(actor=self.principal, **self.given(GroupRoleNew))
        return Response(GroupRoleOut(row).data, status=201, headers=location("group-role-detail", pk=row.pk))

    @extend_schema(request=GroupRoleChange, responses=GroupRoleOut)
    def partial_update(self, request: Request, pk: str) -> Response:  # noqa: ARG002
        """Change which role a group gives, or its priority."""
        group = self.get_object().group
        row = groups.update_group_role(actor=self.principal, group=group, **self.given(GroupRoleChange))
        return Response(GroupRoleOut(row).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:  # noqa: ARG002
        """Stop a group from giving a role."""
        groups.delete_group_role(actor=self.principal, group=self.get_object().group)
        return Response(status=204)
