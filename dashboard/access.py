"""Access: the roles and what they may do, and the question whether somebody may do something, and why."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from django.conf import settings
from django.db.models import Count
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse

from accounts.models import GroupRole, ServiceAccount, User
from accounts.principal_lookup import find_principal_for, permissions_of
from core.errors import Forbidden, Invalid, NotFound, ServiceError, Stale
from core.forms import add_service_error
from dashboard.access_forms import METHODS, NewRole, Question, RoleForm
from dashboard.base import FormPage, Page
from dashboard.navigation import Link
from rbac import preview, services
from rbac.explain import explain
from rbac.models import Role
from rbac.permissions import MEANINGS, Permission
from rbac.preview import Effect, Preview
from rbac.principals import Principal

SHOWN: Final = 25  # requests of each kind that a preview shows

# What the permissions are about, in words.
GROUPS: Final[dict[str, tuple[Permission, ...]]] = {
    "The protected APIs": (
        Permission.UPSTREAM_PUBLIC, Permission.UPSTREAM_READ, Permission.UPSTREAM_WRITE, Permission.UPSTREAM_ADMIN,
    ),
    "Their own": (Permission.PASSWORD_OWN, Permission.SERVICE_ACCOUNTS_OWN),
    "People and machines": (
        Permission.USERS_READ, Permission.USERS_WRITE, Permission.SERVICE_ACCOUNTS_READ, Permission.SERVICE_ACCOUNTS_WRITE,
    ),
    "Access": (
        Permission.ROLES_READ, Permission.ROLES_WRITE, Permission.ROUTES_READ, Permission.ROUTES_WRITE, Permission.POLICY_EXPLAIN,
    ),
    "Operation": (Permission.AUDIT_READ, Permission.METRICS_READ, Permission.ADMIN_SITE_USE),
}  # fmt: skip


def grouped(permissions: Iterable[str]) -> list[tuple[str, list[tuple[Permission, str]]]]:
    """Return these permissions with their meanings, in groups; without the groups of which there is none."""
    wanted = frozenset(permissions)
    rows = [(title, [(name, MEANINGS[name]) for name in names if name in wanted]) for title, names in GROUPS.items()]
    return [(title, found) for title, found in rows if found]


def tabs(principal: Principal) -> list[Link]:
    """Return the pages of this section that the person may see."""
    offered = (
        ("roles", "Roles", "dashboard:access", Permission.ROLES_READ),
        ("routes", "Routes", "dashboard:routes", Permission.ROUTES_READ),
        ("groups", "Groups", "dashboard:groups", Permission.ROLES_READ),
        ("try", "Try it", "dashboard:try", None),
    )
    return [Link(name, title, reverse(page)) for name, title, page, need in offered if need is None or principal.holds(need)]


def may_change(principal: Principal, role: Role) -> bool:
    """Return whether this person is offered to change a role; the services decide whether it is done."""
    return services.is_permitted(services.require_role_change, principal, role)


def may_route(principal: Principal) -> bool:
    """Return whether this person is offered to change routes."""
    return services.is_permitted(services.require_routes, principal)


@dataclass(frozen=True, slots=True)
class Tried:
    """A preview as a page shows it: the first requests of each kind, and how many there are."""

    tried: int
    lost: Sequence[Effect]
    lost_count: int
    gained: Sequence[Effect]
    gained_count: int

    @classmethod
    def of(cls, preview: Preview) -> "Tried":
        """Return what is shown of a preview."""
        lost, gained = preview.lost, preview.gained
        return cls(preview.tried, lost[:SHOWN], len(lost), gained[:SHOWN], len(gained))


class AccessPage(Page):
    """A page of this section, with its tabs."""

    section = "access"
    tab: ClassVar[str] = ""

    def render(self, template: str = "", status: int = 200, **context: Any) -> HttpResponse:
        """Return the page with the tabs, and whether previews are for this person."""
        shared = {"tabs": tabs(self.principal), "tab": self.tab, "previews": self.principal.holds(Permission.POLICY_EXPLAIN)}
        return super().render(template, status, **{**shared, **context})


class AccessForm(AccessPage, FormPage):
    """A form of this section. With `step` "preview" it is not done: it says what would be otherwise, and asks again."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Do, or try, what the form asks for."""
        form = self.make_form(request.POST)
        stale = False
        if form.is_valid():
            try:
                if request.POST.get("step") == "preview":
                    return self.render_form(form, preview=Tried.of(self.preview(form.cleaned_data)))
                return self.perform(form.cleaned_data)
            except (Forbidden, NotFound):
                raise
            except ServiceError as error:
                add_service_error(form, error)
                stale = isinstance(error, Stale)
        return self.render_form(form, status=422, stale=stale)

    def render_form(self, form: BaseForm, status: int = 200, **context: Any) -> HttpResponse:
        """Return the page with the form and what else there is to say."""
        return self.render(status=status, form=form, **context)

    def preview(self, given: dict[str, Any]) -> Preview:  # noqa: ARG002 - for those that have one
        """Return what it would do. Raises ServiceError."""
        raise Invalid("There is nothing to preview here.")


class Access(AccessPage):
    """The roles as a matrix: what each may do, and how many hold it. Who may not read roles may still try something."""

    template = "dashboard/access/roles.html"
    tab = "roles"

    def get(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Show it."""
        me = self.principal
        if not me.holds(Permission.ROLES_READ):
            return self.redirect_to(reverse("dashboard:try"))
        roles = list(Role.objects.order_by("name"))
        roles.sort(key=lambda role: (not role.builtin, -len(role.holds) if role.builtin else 0, role.name))
        return self.render(
            roles=roles,
            matrix=[
                (title, [(name, meaning, [name in role.holds for role in roles]) for name, meaning in rows])
                for title, rows in grouped(Permission)
            ],
            users=_counts(User, roles) if me.holds(Permission.USERS_READ) else None,
            accounts=_counts(ServiceAccount, roles) if me.holds(Permission.SERVICE_ACCOUNTS_READ) else None,
            groups=_counts(GroupRole, roles),
            newcomers=settings.RBAC_DEFAULT_ROLE,
            writes=me.holds(Permission.ROLES_WRITE),
        )


def _counts(model: Any, roles: Sequence[Role]) -> list[tuple[Role, int]]:
    """Return for each role how many rows of the model have it."""
    found = dict(model.objects.order_by().values_list("role").annotate(Count("pk")))
    return [(role, found.get(role.pk, 0)) for role in roles]


class RoleNew(AccessForm):
    """Makes a role. Nobody holds it yet, so there is nothing to preview."""

    needs = (Permission.ROLES_WRITE,)
    template = "dashboard/access/role_new.html"
    tab = "roles"

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, with what may be given."""
        return NewRole(data, choices=grouped(self.principal.permissions))

    def perform(self, given: dict[str, Any]) -> HttpResponse:
        """Make the role."""
        role = services.create_role(actor=self.principal, **given)
        return self.redirect_to(reverse("dashboard:access"), f"The role {role.name} was created. Give it to users or accounts.")


class OneRole(AccessForm):
    """A role: what it may do, to be changed by who may."""

    needs = (Permission.ROLES_READ,)
    template = "dashboard/access/role.html"
    tab = "roles"

    @property
    def role(self) -> Role:
        """The role of the address. Raises NotFound."""
        return find_role(self.kwargs["name"])

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, with what may be given."""
        role = self.role
        initial = {"description": role.description, "permissions": sorted(role.holds), "version": role.version}
        return RoleForm(data, initial=initial, choices=grouped(self.principal.permissions))

    def render_form(self, form: BaseForm, status: int = 200, **context: Any) -> HttpResponse:
        """Return the page."""
        role, me = self.role, self.principal
        return super().render_form(
            form,
            status,
            role=role,
            held=grouped(role.holds),
            changes=may_change(me, role),
            deletes=may_change(me, role) and not role.builtin and role.name != settings.RBAC_DEFAULT_ROLE,
            **context,
        )

    def preview(self, given: dict[str, Any]) -> Preview:
        """Return what the role would do like this. Raises Forbidden, Invalid, Conflict, Stale."""
        services.require(self.principal, Permission.ROLES_WRITE)
        services.check_version(self.role, given["version"])
        return preview.of_role(
            actor=self.principal, name=self.role.name, permissions=given["permissions"], permissions_of=permissions_of
        )

    def perform(self, given: dict[str, Any]) -> HttpResponse:
        """Change the role."""
        role = services.update_role(actor=self.principal, name=self.role.name, **given)
        return self.redirect_to(reverse("dashboard:role", args=[role.name]), f"The role {role.name} was changed.")


class RoleDelete(AccessPage):
    """Deletes a role that nobody holds, after it was said what it is."""

    needs = (Permission.ROLES_WRITE,)
    template = "dashboard/access/role_delete.html"
    tab = "roles"

    def get(self, request: HttpRequest, name: str) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Ask."""
        role = find_role(name)
        holders = [
            (number, what)
            for model, what in ((User, "user"), (ServiceAccount, "service account"), (GroupRole, "group"))
            if (number := model.objects.filter(role=role).count())
        ]
        return self.render(role=role, held=grouped(role.holds), holders=holders)

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        """Delete it."""
        role = find_role(name)
        services.delete_role(actor=self.principal, name=role.name, version=number(request.POST.get("version", "")))
        return self.redirect_to(reverse("dashboard:access"), f"The role {role.name} was deleted.")


def find_role(name: str) -> Role:
    """Return the role of that name. Raises NotFound: here the name is an address, and no field of a form."""
    try:
        return services.get_role(name)
    except Invalid as error:
        raise NotFound(error.message) from None


def number(text: str) -> int:
    """Return the number that a hidden field holds. Raises Invalid: a page of ours always has it."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Invalid("The form was not sent whole. Load the page again.")
    return int(text)


class Try(AccessPage):
    """Asks what somebody would be answered, and why. About oneself anybody may."""

    template = "dashboard/access/try.html"
    tab = "try"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show the question, and the answer once there is one."""
        others = self.principal.holds(Permission.POLICY_EXPLAIN)
        if "path" not in request.GET:
            return self.render(form=Question(others=others), others=others, methods=METHODS)
        form = Question(request.GET, others=others)
        answer = None
        if form.is_valid():
            given = dict(form.cleaned_data)
            # Whoever writes another's name into the address is refused, and not answered about themselves.
            who = given.pop("who", "") or request.GET.get("who", "").strip()
            try:
                answer = explain(*find_principal_for(actor=self.principal, name=who), **given)
            except NotFound as error:
                form.add_error("who", error.message)
        return self.render(
            form=form,
            others=others,
            methods=METHODS,
            answer=answer,
            asked=form.cleaned_data,
            reads_routes=self.principal.holds(Permission.ROUTES_READ),
        )
