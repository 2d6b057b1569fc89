"""Group roles in the Django admin."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest

from accounts.models import GroupRole
from accounts.services import groups
from adminsite.base import ServiceAdmin, ServiceForm
from rbac.models import Role
from rbac.principals import Principal


class GroupRoleForm(ServiceForm):
    """The role that a group gives; the group is what it is known by."""

    role = forms.ModelChoiceField(Role.objects.all(), empty_label=None)

    class Meta:
        model = GroupRole
        fields = ("priority",)

    def write(self) -> GroupRole:
        """Change what the person changed."""
        changed = self.changed("role", "priority")
        if "role" in changed:
            changed["role"] = changed["role"].name
        return groups.update_group_role(actor=self.actor, group=self.instance.group, **changed)


class NewGroupRoleForm(GroupRoleForm):
    """A group that gives no role yet."""

    role = forms.ModelChoiceField(Role.objects.all(), empty_label="choose one")

    class Meta:
        model = GroupRole
        fields = ("group", "priority")

    def write(self) -> GroupRole:
        """Let the group give the role."""
        given = self.cleaned_data
        return groups.create_group_role(
            actor=self.actor, group=given["group"], role=given["role"].name, priority=given["priority"]
        )


@admin.register(GroupRole)
class GroupRoleAdmin(ServiceAdmin):
    """Which role a group of the identity provider gives."""

    form = GroupRoleForm
    add_form = NewGroupRoleForm
    fields = ("group", "role", "priority")
    list_display = ("group", "role", "priority")
    list_filter = ("role",)
    list_select_related = ("role",)
    search_fields = ("group",)

    def get_readonly_fields(self, request: HttpRequest, obj: GroupRole | None = None) -> Any:
        """Return the group's name once it exists."""
        return () if obj is None else ("group",)

    def remove(self, actor: Principal, row: GroupRole) -> None:
        """Stop the group from giving a role."""
        groups.delete_group_role(actor=actor, group=row.group)
