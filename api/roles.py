"""Roles, and the groups of the identity provider that assign them."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import group_names
from accounts.filters import GroupRoleFilterSet
from accounts.models import GroupRole
from accounts.services import groups
from api.base import NUMBER, ApiViewSet, NumberField, UntrimmedCharField, location
from api.etags import expected_version, tagged
from api.permissions import Need
from api.schema import ETAG, IF_MATCH, LOCATION, describe_list_and_retrieve
from api.strict import RequestSerializer
from rbac import services
from rbac.filters import RoleFilterSet
from rbac.models import Role
from rbac.permissions import Permission

MAX_PRIORITY = 2_147_483_647  # PostgreSQL's integer
_PERMISSIONS = "The names of the permissions, such as `users:read`. You must have each of them yourself."
_ROLE = "The name of the role that the group assigns. You must have all of its permissions."
_PRIORITY = "The rank of the group. If a user has several groups, the one with the lowest number decides."


class RoleSerializer(serializers.ModelSerializer[Role]):
    """A role with its effective permissions."""

    permissions = serializers.SerializerMethodField(help_text="The names of the permissions, sorted.")

    class Meta:
        model = Role
        fields = ("name", "description", "permissions", "builtin", "version")
        read_only_fields = fields
        extra_kwargs: ClassVar[dict[str, Any]] = {
            "name": {"help_text": "The name of the role."},
            "description": {"help_text": "What the role is for."},
            "builtin": {"help_text": "Whether the role came with SkyAuth. Such a role cannot be deleted."},
            "version": {
                "help_text": "The version of the role. In quotes it is the `ETag`, for `If-Match`. Each change increments it."
            },
        }

    def get_permissions(self, role: Role) -> list[str]:
        return sorted(role.holds)


class RoleUpdateSerializer(RequestSerializer):
    """The fields of a role that can be changed."""

    description = UntrimmedCharField(max_length=200, required=False, allow_blank=True, help_text="What the role is for.")
    permissions = serializers.ListField(
        child=UntrimmedCharField(max_length=64), required=False, max_length=100, help_text=_PERMISSIONS
    )


class RoleCreateSerializer(RoleUpdateSerializer):
    """A new role."""

    name = UntrimmedCharField(max_length=32, help_text="Lower-case letters, digits and `-`, starting with a letter.")


@describe_list_and_retrieve(
    "roles", "a role", of_list="Returns the roles, by name.", of_one="Returns a role. The `ETag` header is its version."
)
class RoleViewSet(mixins.ListModelMixin, ApiViewSet):
    """Roles, by name. A change needs If-Match."""

    needs: ClassVar[dict[str, Need]] = {
        "list": Permission.ROLES_READ,
        "retrieve": Permission.ROLES_READ,
        "create": Permission.ROLES_WRITE,
        "partial_update": Permission.ROLES_WRITE,
        "destroy": Permission.ROLES_WRITE,
    }
    bodies: ClassVar[dict[str, type[RequestSerializer]]] = {
        "create": RoleCreateSerializer,
        "partial_update": RoleUpdateSerializer,
    }
    versioned = frozenset({"partial_update", "destroy"})
    queryset = Role.objects.order_by("name")
    serializer_class = RoleSerializer
    lookup_field = "name"
    lookup_value_regex = "[a-z][a-z0-9-]{0,31}"
    path_descriptions = {"name": "The name of the role."}
    filterset_class = RoleFilterSet
    ordering_fields = ("name",)
    ordering = ("name",)

    @extend_schema(responses=RoleSerializer, parameters=[ETAG])
    def retrieve(self, request: Request, name: str) -> Response:  # noqa: ARG002 - DRF's signature
        return _tagged_role(self.get_object())

    @extend_schema(
        summary="Create a role",
        description="Creates a role. You can only grant permissions that you have yourself.",
        responses={201: RoleSerializer},
        parameters=[ETAG, LOCATION],
    )
    def create(self, request: Request) -> Response:  # noqa: ARG002
        role = services.create_role(actor=self.principal, **self.body())
        return _tagged_role(role, status=201, headers=location("role-detail", name=role.name))

    @extend_schema(
        summary="Update a role",
        description="Changes the description or the permissions of a role. Fields that are not sent keep their values.",
        responses=RoleSerializer,
        parameters=[ETAG, IF_MATCH],
    )
    def partial_update(self, request: Request, name: str) -> Response:
        role = self.get_object()
        version = expected_version(request, role.version)
        changes = self.body(RoleSerializer(role).data)
        return _tagged_role(services.update_role(actor=self.principal, name=name, version=version, **changes))

    @extend_schema(
        summary="Delete a role",
        description="Deletes a role that is not built in and that no user, service account or group has.",
        responses={204: None},
        parameters=[IF_MATCH],
    )
    def destroy(self, request: Request, name: str) -> Response:
        version = expected_version(request, self.get_object().version)
        services.delete_role(actor=self.principal, name=name, version=version)
        return Response(status=204)


def _tagged_role(role: Role, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return tagged(RoleSerializer(role).data, role.version, status=status, headers=headers)


class GroupRoleSerializer(serializers.ModelSerializer[GroupRole]):
    """A group of the identity provider and the role that it assigns."""

    role = serializers.CharField(source="role.name", help_text="The name of the role that the group assigns.")
    warning = serializers.SerializerMethodField(
        help_text="Why no group assigns a role at the moment, for example because single sign-on is off. Empty: groups do."
    )

    class Meta:
        model = GroupRole
        fields = ("id", "group", "role", "priority", "warning")
        read_only_fields = fields
        extra_kwargs: ClassVar[dict[str, Any]] = {
            "id": {"help_text": "The number of the mapping."},
            "group": {"help_text": "The name of the group, as the identity provider sends it."},
            "priority": {"help_text": _PRIORITY},
        }

    def get_warning(self, row: GroupRole) -> str:  # noqa: ARG002 - the same for all groups
        return group_names.unread_reason()


class GroupRoleUpdateSerializer(RequestSerializer):
    """The fields of a group role that can be changed."""

    role = UntrimmedCharField(max_length=32, required=False, help_text=_ROLE)
    priority = NumberField(min_value=0, max_value=MAX_PRIORITY, required=False, help_text=_PRIORITY)


class GroupRoleCreateSerializer(RequestSerializer):
    """A group and the role that it is to assign."""

    group = UntrimmedCharField(max_length=200, help_text="The name of the group, as the identity provider sends it.")
    role = UntrimmedCharField(max_length=32, help_text=_ROLE)
    priority = NumberField(min_value=0, max_value=MAX_PRIORITY, default=100, help_text=_PRIORITY)


@describe_list_and_retrieve(
    "group roles",
    "a group role",
    of_list="Returns the groups of the identity provider that assign a role, in the order in which they decide.",
    of_one="Returns one group and the role that it assigns.",
)
class GroupRoleViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, ApiViewSet):
    """Group roles, by number: the name of a group can contain slashes, which proxies treat differently in a path."""

    needs: ClassVar[dict[str, Need]] = {
        "list": Permission.ROLES_READ,
        "retrieve": Permission.ROLES_READ,
        "create": Permission.ROLES_WRITE,
        "partial_update": Permission.ROLES_WRITE,
        "destroy": Permission.ROLES_WRITE,
    }
    bodies: ClassVar[dict[str, type[RequestSerializer]]] = {
        "create": GroupRoleCreateSerializer,
        "partial_update": GroupRoleUpdateSerializer,
    }
    queryset = GroupRole.objects.select_related("role").order_by("priority", "group")
    serializer_class = GroupRoleSerializer
    lookup_value_regex = NUMBER
    path_descriptions = {"id": "The number of the mapping."}
    filterset_class = GroupRoleFilterSet
    ordering_fields = ("group", "priority", "role")
    ordering = ("priority", "group")

    @extend_schema(
        summary="Create a group role",
        description="Lets a group assign a role. Users of the group get the role at their next request.",
        responses={201: GroupRoleSerializer},
        parameters=[LOCATION],
    )
    def create(self, request: Request) -> Response:  # noqa: ARG002 - DRF's signature
        row = groups.create_group_role(actor=self.principal, **self.body())
        return Response(GroupRoleSerializer(row).data, status=201, headers=location("group-role-detail", pk=row.pk))

    @extend_schema(
        summary="Update a group role",
        description="Changes the role that a group assigns, or the priority of the group. With a higher number, other groups can "
        "decide for its members: you must have all permissions of their roles.",
        responses=GroupRoleSerializer,
    )
    def partial_update(self, request: Request, pk: str) -> Response:  # noqa: ARG002
        row = self.get_object()
        changes = self.body(GroupRoleSerializer(row).data)
        row = groups.update_group_role(actor=self.principal, group=row.group, **changes)
        return Response(GroupRoleSerializer(row).data)

    @extend_schema(
        summary="Delete a group role",
        description="Stops a group from assigning a role. You must have all permissions of the roles of the groups that decide "
        "afterwards.",
        responses={204: None},
    )
    def destroy(self, request: Request, pk: str) -> Response:  # noqa: ARG002
        groups.delete_group_role(actor=self.principal, group=self.get_object().group)
        return Response(status=204)
