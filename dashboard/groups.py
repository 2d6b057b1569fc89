"""The pages about groups of the identity provider and the roles that they map to."""

from typing import Any

from django.contrib import messages
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse

from accounts import grants, group_names
from accounts.filters import GroupRoleFilterSet
from accounts.models import GroupRole
from accounts.services import groups
from core.errors import NotFound
from dashboard.access import AccessFormPage, AccessPage
from dashboard.access_forms import ChangeGroupForm, GroupFilter, NewGroupForm, SeenGroupForm
from dashboard.forms import role_choices
from dashboard.lists import paginate
from rbac.permissions import Permission
from rbac.services import get_role, is_permitted

SORTS = {"rank": ("priority", "group"), "group": ("group",)}


class GroupsPage(AccessPage):
    """The list of groups, in the order of their priority."""

    needs = (Permission.ROLES_READ,)
    template = "dashboard/access/groups.html"
    tab = "groups"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Return a page of the list."""
        form = GroupFilter(request.GET, auto_id="filter_%s")
        text = form.cleaned_data["q"] if form.is_valid() else ""
        rows = GroupRoleFilterSet({"search": text}, queryset=GroupRole.objects.select_related("role")).qs
        rows = rows if form.is_valid() else rows.none()
        page = paginate(rows, request.GET, sorts=SORTS, default="rank")
        principal = self.principal
        for row in page.rows:
            row.changeable = is_permitted(groups.require_change, principal, row)
        return self.render(
            filter=form, filtered=bool(text) or not form.is_valid(), page=page, writes=principal.holds(Permission.ROLES_WRITE)
        )


class NewGroupPage(AccessFormPage):
    """Maps a group to a role."""

    needs = (Permission.ROLES_WRITE,)
    template = "dashboard/access/group_new.html"
    tab = "groups"

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, with the roles that the user is allowed to grant."""
        return NewGroupForm(data, roles=role_choices(self.principal))

    def confirmation(self, values: dict[str, Any]) -> str:
        return grants.to_group(self.principal, values["group"], get_role(values["role"]), values["priority"])

    def perform(self, values: dict[str, Any]) -> HttpResponse:
        row = groups.create_group_role(actor=self.principal, **values)
        warn_unread(self.request)
        return self.redirect_to(
            reverse("dashboard:groups"), f"The group {row.group} was added. It maps to the role {row.role.name}."
        )


class GroupPage(AccessFormPage):
    """Changes the role that a group maps to, or its priority."""

    needs = (Permission.ROLES_WRITE,)
    template = "dashboard/access/group.html"
    tab = "groups"

    @property
    def row(self) -> GroupRole:
        """The group in the URL. Raises NotFound."""
        return find_group(self.kwargs["pk"])

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, with the roles that the user is allowed to grant."""
        row = self.row
        return ChangeGroupForm(
            data,
            initial={"role": row.role.name, "priority": row.priority, **seen_of(row)},
            roles=role_choices(self.principal, held=row.role.name),
        )

    def render_form(self, form: BaseForm, status: int = 200, **context: Any) -> HttpResponse:
        """Return the page."""
        row = self.row
        can_change = is_permitted(groups.require_change, self.principal, row)
        return super().render_form(form, status, row=row, can_change=can_change, **context)

    def confirmation(self, values: dict[str, Any]) -> str:
        row = self.row
        return grants.to_group(self.principal, row.group, get_role(values["role"]), values["priority"], row)

    def perform(self, values: dict[str, Any]) -> HttpResponse:
        seen = values.pop("seen_role"), values.pop("seen_priority")
        row = groups.update_group_role(actor=self.principal, group=self.row.group, if_match=seen, **values)
        warn_unread(self.request)
        return self.redirect_to(
            reverse("dashboard:groups"),
            f"The group {row.group} was saved. It maps to the role {row.role.name} with priority {row.priority}.",
        )


class DeleteGroupPage(AccessFormPage):
    """Asks for a confirmation and deletes the role mapping of a group."""

    needs = (Permission.ROLES_WRITE,)
    template = "dashboard/confirm.html"
    tab = "groups"

    @property
    def row(self) -> GroupRole:
        """The group in the URL. Raises NotFound."""
        return find_group(self.kwargs["pk"])

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, with the mapping that the page shows."""
        return SeenGroupForm(data, initial=seen_of(self.row))

    def render_form(self, form: BaseForm, status: int = 200, **context: Any) -> HttpResponse:
        """Return the confirmation."""
        row = self.row
        groups.require_change(self.principal, row)
        return super().render_form(
            form,
            status,
            crumbs=[
                ("Access", reverse("dashboard:access")),
                ("Groups", reverse("dashboard:groups")),
                (row.group, self.page_path()),
            ],
            title=f"Delete group {row.group}?",
            text=(
                f"The group maps to the role {row.role.name} with priority {row.priority}. Members who got this role from the"
                " group lose it at their next request through single sign-on. Until then, their passwords, sessions and service"
                " accounts have it, too. To take it from a user at once, also change the user's role."
            ),
            button="Delete group",
            back=self.page_path(),
            **context,
        )

    def perform(self, values: dict[str, Any]) -> HttpResponse:
        row = self.row
        groups.delete_group_role(actor=self.principal, group=row.group, if_match=(values["seen_role"], values["seen_priority"]))
        return self.redirect_to(reverse("dashboard:groups"), f"The group {row.group} was deleted.")

    def page_path(self) -> str:
        """Return the path of the group's page."""
        return reverse("dashboard:group", args=[self.kwargs["pk"]])


def warn_unread(request: HttpRequest) -> None:
    """Show on the next page why no group gives a role at the moment, if that is so."""
    if reason := group_names.unread_reason():
        messages.warning(request, reason)


def seen_of(row: GroupRole) -> dict[str, Any]:
    """Return the values of the group that a form keeps in hidden fields."""
    return {"seen_role": row.role.name, "seen_priority": row.priority}


def find_group(pk: int) -> GroupRole:
    """Return the group. Raises NotFound."""
    row = GroupRole.objects.select_related("role").filter(pk=pk).first() if pk < 10**18 else None
    if row is None:
        raise NotFound("This group does not exist. It may have been deleted.")
    return row
