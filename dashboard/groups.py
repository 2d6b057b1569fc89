"""Groups of the identity provider, and the roles that they give."""

from typing import Any

from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse

from accounts.filters import GroupRoleFilterSet
from accounts.models import GroupRole
from accounts.services import groups
from core.errors import NotFound
from dashboard.access import AccessForm, AccessPage
from dashboard.access_forms import GroupFilter, KnownGroup, NewGroup, SeenGroup
from dashboard.forms import role_choices
from dashboard.lists import paginate
from rbac.permissions import Permission
from rbac.services import is_permitted

SORTS = {"rank": ("priority", "group"), "group": ("group",)}


class Groups(AccessPage):
    """The list of groups, in the order in which they decide."""

    needs = (Permission.ROLES_READ,)
    template = "dashboard/access/groups.html"
    tab = "groups"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show a page of it."""
        form = GroupFilter(request.GET, auto_id="filter_%s")
        text = form.cleaned_data["q"] if form.is_valid() else ""
        rows = GroupRoleFilterSet({"search": text}, queryset=GroupRole.objects.select_related("role")).qs
        found = paginate(rows, request.GET, sorts=SORTS, default="rank")
        me = self.principal
        for row in found.rows:
            row.changeable = is_permitted(groups.require_change, me, row)
        return self.render(filter=form, filtered=bool(text), page=found, writes=me.holds(Permission.ROLES_WRITE))


class GroupNew(AccessForm):
    """Lets a group give a role."""

    needs = (Permission.ROLES_WRITE,)
    template = "dashboard/access/group_new.html"
    tab = "groups"

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, with the roles that may be given."""
        return NewGroup(data, roles=role_choices(self.principal))

    def perform(self, given: dict[str, Any]) -> HttpResponse:
        """Let it."""
        row = groups.create_group_role(actor=self.principal, **given)
        return self.redirect_to(reverse("dashboard:groups"), f"The group {row.group} gives the role {row.role.name} now.")


class OneGroup(AccessForm):
    """Changes which role a group gives, or its rank."""

    needs = (Permission.ROLES_WRITE,)
    template = "dashboard/access/group.html"
    tab = "groups"

    @property
    def row(self) -> GroupRole:
        """The group of the address. Raises NotFound."""
        return find_group(self.kwargs["pk"])

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, with the roles that may be given."""
        row = self.row
        return KnownGroup(
            data,
            initial={"role": row.role.name, "priority": row.priority, **seen_of(row)},
            roles=role_choices(self.principal, held=row.role.name),
        )

    def render_form(self, form: BaseForm, status: int = 200, **context: Any) -> HttpResponse:
        """Return the page."""
        row = self.row
        return super().render_form(form, status, row=row, changes=row.role.holds <= self.principal.permissions, **context)

    def perform(self, given: dict[str, Any]) -> HttpResponse:
        """Change it."""
        seen = given.pop("seen_role"), given.pop("seen_priority")
        row = groups.update_group_role(actor=self.principal, group=self.row.group, if_match=seen, **given)
        return self.redirect_to(
            reverse("dashboard:groups"), f"The group {row.group} gives the role {row.role.name}, with rank {row.priority}."
        )


class GroupDelete(AccessForm):
    """Stops a group from giving a role, after it was asked."""

    needs = (Permission.ROLES_WRITE,)
    template = "dashboard/confirm.html"
    tab = "groups"

    @property
    def row(self) -> GroupRole:
        """The group of the address. Raises NotFound."""
        return find_group(self.kwargs["pk"])

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, which knows what the page said."""
        return SeenGroup(data, initial=seen_of(self.row))

    def render_form(self, form: BaseForm, status: int = 200, **context: Any) -> HttpResponse:
        """Ask."""
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
            title=f"Let {row.group} give no role any more?",
            text=f"Members who have the role {row.role.name} by this group keep it until they sign in again.",
            button="Delete group",
            back=self.page_path(),
            **context,
        )

    def perform(self, given: dict[str, Any]) -> HttpResponse:
        """Stop it."""
        row = self.row
        groups.delete_group_role(actor=self.principal, group=row.group, if_match=(given["seen_role"], given["seen_priority"]))
        return self.redirect_to(reverse("dashboard:groups"), f"The group {row.group} gives no role any more.")

    def page_path(self) -> str:
        """Return the group's page."""
        return reverse("dashboard:group", args=[self.kwargs["pk"]])


def seen_of(row: GroupRole) -> dict[str, Any]:
    """Return what a form keeps of the group as it was when the page was shown."""
    return {"seen_role": row.role.name, "seen_priority": row.priority}


def find_group(pk: int) -> GroupRole:
    """Return the row of a group. Raises NotFound."""
    row = GroupRole.objects.select_related("role").filter(pk=pk).first() if pk < 10**18 else None
    if row is None:
        raise NotFound("There is no such group here. Somebody may have deleted it.")
    return row
