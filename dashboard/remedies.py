"""The links of a decision: to the caller, the route and the roles, and to the pages where the reader can allow the request."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlencode

from django.urls import reverse

from accounts.models import User
from accounts.services import service_accounts
from dashboard.access import can_change_role, can_change_routes
from dashboard.service_accounts import can_manage
from dashboard.users import can_change
from rbac.models import Role, Route
from rbac.permissions import Permission
from rbac.principals import Kind, Principal


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision, as far as its links depend on it: the names and ids are those of `rbac.denials.PastDenial`."""

    kind: Kind
    uid: str
    role: str
    method: str
    host: str
    path: str
    needed: str
    rule: str
    allowed: bool


@dataclass(frozen=True, slots=True)
class Remedies:
    """Links for one reader. A text without a page that the reader can open has the link "".

    `roles` are the roles with the required permission, `steps` what the reader can change so that the request is allowed.
    """

    caller: str
    role: str
    route: str
    roles: list[tuple[str, str]]
    steps: list[tuple[str, str]]


def remedies(reader: Principal, decided: Decided, roles: Iterable[str], *, back: str) -> Remedies:
    """Return the links of a decision; `back` is the page that shows them."""
    reads_roles = reader.holds(Permission.ROLES_READ)
    rows = {role.name: role for role in Role.objects.all()}
    links = {name: reverse("dashboard:role", args=[name]) if reads_roles else "" for name in rows}
    caller, changes = _caller(reader, decided, [rows[name] for name in roles if name in rows], back)
    route, edit = _route(reader, decided)
    steps: list[tuple[str, str]] = []
    if not decided.allowed:
        own = rows.get(decided.role)
        adds = own is not None and bool(decided.needed) and decided.needed not in own.holds and can_change_role(reader, own)
        add = (f"Add the permission {decided.needed} to the role {decided.role}", links.get(decided.role, ""))
        steps = [*changes, *[add] * adds, *edit]
    return Remedies(caller, links.get(decided.role, ""), route, [(name, links.get(name, "")) for name in roles], steps)


def _caller(reader: Principal, decided: Decided, holders: list[Role], back: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the page of the caller, and the pages that give the caller another role."""
    if decided.kind is Kind.USER and reader.holds(Permission.USERS_READ):
        user = User.objects.select_related("role").filter(uid=decided.uid).first()
        if user is None:
            return "", []
        page = reverse("dashboard:user", args=[user.uid])
        if not decided.needed or decided.needed in user.role.holds or not can_change(reader, user):
            return page, []
        ask = reverse("dashboard:users-role")
        return page, [
            (
                f"Change the role of {user.username} to {role.name}",
                f"{ask}?{urlencode({'uid': user.uid, 'role': role.name, 'back': back})}",
            )
            for role in holders
            if role.holds <= reader.permissions
        ]
    if decided.kind is Kind.SERVICE_ACCOUNT:
        account = service_accounts.visible(reader).filter(uid=decided.uid).first()
        if account is None:
            return "", []
        page = reverse("dashboard:service-account", args=[account.uid])
        gives = bool(decided.needed) and can_manage(reader, account)
        return page, [(f"Change the role of the service account {account.name}, or its owner", page)] if gives else []
    return "", []


def _route(reader: Principal, decided: Decided) -> tuple[str, list[tuple[str, str]]]:
    """Return the page of the matched route, and the page that changes or adds one."""
    if not reader.holds(Permission.ROUTES_READ):
        return "", []
    writes = can_change_routes(reader)
    if not decided.rule:
        values = {"methods": decided.method, "host": decided.host, "path": decided.path.partition("?")[0]}
        return "", [("Add a route for this request", f"{reverse('dashboard:route-new')}?{urlencode(values)}")] if writes else []
    row = next((row for row in Route.objects.all() if str(row) == decided.rule), None)
    if row is None or not writes:
        listed = f"{reverse('dashboard:routes')}?{urlencode({'q': decided.path.partition('?')[0]})}"
        return listed + (f"#route-{row.pk}" if row else ""), []
    page = reverse("dashboard:route", args=[row.pk])
    return page, [("Change the permission that the route requires", page)]
