"""Group roles in the Django admin."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest

from accounts import grants, group_names
from accounts.models import GroupRole
from accounts.services import groups
from adminsite.base import ServiceAdmin, ServiceForm
from rbac.models import Role
from rbac.principals import Principal


class GroupRoleAdminForm(ServiceForm):
    """The form that changes the role of a group. The group's name cannot be changed."""

    role = forms.ModelChoiceField(Role.objects.all(), empty_label=None)

    class Meta:
        model = GroupRole
        fields = ("priority",)

    def confirmation(self) -> str:
        stored = GroupRole.objects.select_related("role").get(pk=self.instance.pk)
        values = {"role": stored.role, "priority": stored.priority, **self.changed("role", "priority")}
        return grants.to_group(self.actor, stored.group, values["role"], values["priority"], stored)

    def write(self) -> GroupRole:
        changed = self.changed("role", "priority")
        if "role" in changed:
            changed["role"] = changed["role"].name
        return groups.update_group_role(actor=self.actor, group=self.instance.group, **changed)


class NewGroupRoleAdminForm(GroupRoleAdminForm):
    """The form that maps a group to a role."""

    group = forms.CharField(max_length=200, strip=False, help_text="The name of one group, as the identity provider sends it.")
    role = forms.ModelChoiceField(Role.objects.all(), empty_label="Select a role")

    class Meta:
        model = GroupRole
        fields = ("group", "priority")

    def confirmation(self) -> str:
        values = self.cleaned_data
        return grants.to_group(self.actor, values["group"], values["role"], values["priority"])

    def write(self) -> GroupRole:
        values = self.cleaned_data
        return groups.create_group_role(
            actor=self.actor, group=values["group"], role=values["role"].name, priority=values["priority"]
        )


@admin.register(GroupRole)
class GroupRoleAdmin(ServiceAdmin):
    """The roles that groups of the identity provider map to."""

    form = GroupRoleAdminForm
    add_form = NewGroupRoleAdminForm
    fields = ("group", "role", "priority")
    list_display = ("group", "role", "priority")
    list_filter = ("role",)
    list_select_related = ("role",)
    search_fields = ("group",)

    def get_readonly_fields(self, request: HttpRequest, obj: GroupRole | None = None) -> Any:
        """Return the fields that cannot be changed; for a new row, none."""
        return () if obj is None else ("group",)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Show why no group gives a role at the moment, if that is so. The form called the service."""
        super().save_model(request, obj, form, change)
        if reason := group_names.unread_reason():
            self.message_user(request, reason, messages.WARNING)

    def remove(self, actor: Principal, row: GroupRole) -> None:
        groups.delete_group_role(actor=actor, group=row.group)
