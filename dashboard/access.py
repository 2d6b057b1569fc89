"""The pages about roles, and what all pages of the section Access share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from django.conf import settings
from django.db.models import Count
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse

from accounts.models import GroupRole, ServiceAccount, User
from accounts.principal_lookup import permissions_of
from core.errors import Forbidden, Invalid, NotFound, ServiceError, Stale
from core.forms import add_service_error, require_confirmation
from dashboard.access_forms import NewRoleForm, RoleForm
from dashboard.base import FormPage, Page
from dashboard.navigation import Link
from rbac import grants, preview, services
from rbac.models import Role
from rbac.permissions import MEANINGS, Permission
from rbac.preview import Effect, Preview
from rbac.principals import Principal

MOST_EFFECTS: Final = 25  # requests of each kind that a preview lists

# The headings under which the pages list the permissions.
PERMISSION_GROUPS: Final[dict[str, tuple[Permission, ...]]] = {
    "Protected APIs": (
        Permission.UPSTREAM_PUBLIC, Permission.UPSTREAM_READ, Permission.UPSTREAM_WRITE, Permission.UPSTREAM_ADMIN,
    ),
    "Own account": (Permission.PASSWORD_OWN, Permission.SERVICE_ACCOUNTS_OWN),
    "Users and service accounts": (
        Permission.USERS_READ, Permission.USERS_WRITE, Permission.SERVICE_ACCOUNTS_READ, Permission.SERVICE_ACCOUNTS_WRITE,
    ),
    "Access": (
        Permission.ROLES_READ, Permission.ROLES_WRITE, Permission.ROUTES_READ, Permission.ROUTES_WRITE, Permission.POLICY_EXPLAIN,
    ),
    "Operations": (Permission.AUDIT_READ, Permission.METRICS_READ, Permission.ADMIN_SITE_USE),
}  # fmt: skip


def group_permissions(permissions: Iterable[str]) -> list[tuple[str, list[tuple[Permission, str]]]]:
    """Return these permissions with their meanings under their headings, without the headings that have none of them."""
    wanted = frozenset(permissions)
    groups = [(title, [(name, MEANINGS[name]) for name in names if name in wanted]) for title, names in PERMISSION_GROUPS.items()]
    return [(title, rows) for title, rows in groups if rows]


def tabs(principal: Principal) -> list[Link]:
    """Return the tabs that the user is allowed to open."""
    pages = (
        ("roles", "Roles", "dashboard:access", Permission.ROLES_READ),
        ("routes", "Routes", "dashboard:routes", Permission.ROUTES_READ),
        ("groups", "Groups", "dashboard:groups", Permission.ROLES_READ),
        ("try", "Try a request", "dashboard:try", None),
    )
    return [Link(name, title, reverse(page)) for name, title, page, needed in pages if needed is None or principal.holds(needed)]


def can_change_role(principal: Principal, role: Role) -> bool:
    """Return whether the page shows the controls that change the role; the services check the permission again."""
    return services.is_permitted(services.require_role_change, principal, role)


def can_change_routes(principal: Principal) -> bool:
    """Return whether the pages show the controls that change routes; the services check the permission again."""
    return services.is_permitted(services.require_routes, principal)


@dataclass(frozen=True, slots=True)
class PreviewTable:
    """A preview as a page shows it: the first requests that are newly denied or allowed, and the number of each."""

    tried: int
    lost: Sequence[Effect]
    lost_count: int
    gained: Sequence[Effect]
    gained_count: int

    @classmethod
    def of(cls, preview: Preview) -> "PreviewTable":
        lost, gained = preview.lost, preview.gained
        return cls(preview.tried, lost[:MOST_EFFECTS], len(lost), gained[:MOST_EFFECTS], len(gained))


class AccessPage(Page):
    """A page of the section Access, with its tabs."""

    section = "access"
    tab: ClassVar[str] = ""

    def render(self, template: str = "", status: int = 200, **context: Any) -> HttpResponse:
        """Return the page with the tabs, and with previews if the user has the permission for them."""
        shared = {"tabs": tabs(self.principal), "tab": self.tab, "previews": self.principal.holds(Permission.POLICY_EXPLAIN)}
        return super().render(template, status, **{**shared, **context})


class AccessFormPage(AccessPage, FormPage):
    """A page with a form of the section Access. A POST with `step` "preview" changes nothing and shows the preview.

    `noun` names what the form saves, for its buttons.
    """

    noun: ClassVar[str] = ""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Save or preview the form."""
        form = self.make_form(request.POST)
        stale = False
        if form.is_valid():
            try:
                if request.POST.get("step") == "preview":
                    return self.render_form(form, preview=PreviewTable.of(self.preview(form.cleaned_data)))
                if require_confirmation(form, self.confirmation(form.cleaned_data)):
                    return self.perform(form.cleaned_data)
            except (Forbidden, NotFound):
                raise
            except ServiceError as error:
                add_service_error(form, error)
                stale = isinstance(error, Stale)
        return self.render_form(form, status=422, stale=stale)

    def render_form(self, form: BaseForm, status: int = 200, **context: Any) -> HttpResponse:
        """Return the page with the form and further context."""
        return self.render(status=status, form=form, noun=self.noun, **context)

    def preview(self, values: dict[str, Any]) -> Preview:  # noqa: ARG002 - for those that have one
        """Return the preview of the form. Raises ServiceError."""
        raise Invalid("This form has no preview.")


class RolesPage(AccessPage):
    """The roles as a matrix: their permissions, and how many users, service accounts and groups have each role."""

    template = "dashboard/access/roles.html"
    tab = "roles"

    def get(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Return the matrix; redirect users without `roles:read` to the page that tries a request."""
        principal = self.principal
        if not principal.holds(Permission.ROLES_READ):
            return self.redirect_to(reverse("dashboard:try"))
        roles = list(Role.objects.order_by("name"))
        roles.sort(key=lambda role: (not role.builtin, -len(role.holds) if role.builtin else 0, role.name))
        return self.render(
            roles=roles,
            matrix=[
                (title, [(name, meaning, [name in role.holds for role in roles]) for name, meaning in rows])
                for title, rows in group_permissions(Permission)
            ],
            users=_counts(User, roles) if principal.holds(Permission.USERS_READ) else None,
            accounts=_counts(ServiceAccount, roles) if principal.holds(Permission.SERVICE_ACCOUNTS_READ) else None,
            groups=_counts(GroupRole, roles),
            default_role=settings.RBAC_DEFAULT_ROLE,
            writes=principal.holds(Permission.ROLES_WRITE),
        )


def _counts(model: Any, roles: Sequence[Role]) -> list[tuple[Role, int]]:
    """Return for each role how many rows of the model have it."""
    counts = dict(model.objects.order_by().values_list("role").annotate(Count("pk")))
    return [(role, counts.get(role.pk, 0)) for role in roles]


class NewRolePage(AccessFormPage):
    """Creates a role. It has no preview, because no caller has the role yet."""

    needs = (Permission.ROLES_WRITE,)
    template = "dashboard/access/role_new.html"
    tab = "roles"

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, with the permissions that the user is allowed to grant."""
        return NewRoleForm(data, choices=group_permissions(self.principal.permissions))

    def confirmation(self, values: dict[str, Any]) -> str:
        return grants.to_role(self.principal, values["name"], values["permissions"])

    def perform(self, values: dict[str, Any]) -> HttpResponse:
        role = services.create_role(actor=self.principal, **values)
        return self.redirect_to(
            reverse("dashboard:access"),
            f"The role {role.name} was created. You can now assign it to users, service accounts and groups.",
        )


class RolePage(AccessFormPage):
    """A role and its permissions, with a form for users who are allowed to change it."""

    needs = (Permission.ROLES_READ,)
    template = "dashboard/access/role.html"
    tab = "roles"
    noun = "role"

    @property
    def role(self) -> Role:
        """The role in the URL. Raises NotFound."""
        return find_role(self.kwargs["name"])

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, with the permissions that the user is allowed to grant."""
        role = self.role
        initial = {"description": role.description, "permissions": sorted(role.holds), "version": role.version}
        return RoleForm(data, initial=initial, choices=group_permissions(self.principal.permissions))

    def render_form(self, form: BaseForm, status: int = 200, **context: Any) -> HttpResponse:
        """Return the page."""
        role = self.role
        can_change = can_change_role(self.principal, role)
        return super().render_form(
            form,
            status,
            role=role,
            permissions=group_permissions(role.holds),
            can_change=can_change,
            can_delete=can_change and not role.builtin and role.name != settings.RBAC_DEFAULT_ROLE,
            **context,
        )

    def preview(self, values: dict[str, Any]) -> Preview:
        """Return the effect of the changed role. Raises Forbidden, Invalid, Conflict, Stale."""
        services.require(self.principal, Permission.ROLES_WRITE)
        services.check_version(self.role, values["version"])
        return preview.of_role(
            actor=self.principal, name=self.role.name, permissions=values["permissions"], permissions_of=permissions_of
        )

    def confirmation(self, values: dict[str, Any]) -> str:
        role = self.role
        holders = sum(model.objects.filter(role=role).count() for model in (User, ServiceAccount, GroupRole))
        return grants.to_role(self.principal, role.name, values["permissions"], role.holds, holders)

    def perform(self, values: dict[str, Any]) -> HttpResponse:
        role = services.update_role(actor=self.principal, name=self.role.name, **values)
        return self.redirect_to(reverse("dashboard:role", args=[role.name]), f"The role {role.name} was saved.")


class DeleteRolePage(AccessPage):
    """Asks for a confirmation and deletes a role, if no user, service account or group has it."""

    needs = (Permission.ROLES_WRITE,)
    template = "dashboard/access/role_delete.html"
    tab = "roles"

    def get(self, request: HttpRequest, name: str) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Return the confirmation."""
        role = find_role(name)
        holders = [
            (count, noun)
            for model, noun in ((User, "user"), (ServiceAccount, "service account"), (GroupRole, "group"))
            if (count := model.objects.filter(role=role).count())
        ]
        return self.render(role=role, permissions=group_permissions(role.holds), holders=holders)

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        """Delete the role."""
        role = find_role(name)
        services.delete_role(actor=self.principal, name=role.name, version=parse_number(request.POST.get("version", "")))
        return self.redirect_to(reverse("dashboard:access"), f"The role {role.name} was deleted.")


def find_role(name: str) -> Role:
    """Return the role of that name. Raises NotFound, because here the name comes from the URL and not from a form field."""
    try:
        return services.get_role(name)
    except Invalid as error:
        raise NotFound(error.message) from None


def parse_number(text: str) -> int:
    """Return the number of a hidden field. Raises Invalid."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Invalid("The form is incomplete. Reload the page and try again.")
    return int(text)
