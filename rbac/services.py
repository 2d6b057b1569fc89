"""Services for roles and routes, which are changed nowhere else.

Each checks the actor, writes the rows and records the change in one transaction. Errors are `core.errors.ServiceError`.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.db import models, transaction

from audit.events import Event
from audit.record import record
from core.errors import Conflict, Forbidden, Invalid, NotFound, Stale
from rbac import packs
from rbac.models import Role, Route
from rbac.packs import RouteSpec
from rbac.permissions import ADMIN, FIRST_ADMIN, UPSTREAM, Permission
from rbac.principals import Principal
from rbac.routes import Table, compile_rule, insert_at
from rbac.shadows import last_useful_position
from rbac.validation import validate


def require(actor: Principal, permission: Permission) -> None:
    """Raise Forbidden unless the actor has the permission."""
    if permission not in actor.permissions:
        raise Forbidden(f"This requires the permission {permission}, which your role does not have.")


def require_all(actor: Principal, permissions: Iterable[str], doing: str) -> None:
    """Raise Forbidden unless the actor has all of them: nobody grants a permission that they lack (promise 30).

    `doing` completes the sentence "You cannot ...".
    """
    if missing := sorted(frozenset(permissions) - actor.permissions):
        raise Forbidden(f"You cannot {doing}, because you lack {', '.join(missing)}.")


def require_routes(actor: Principal) -> None:
    """Raise Forbidden unless the actor can change routes: that takes every permission that a route can require."""
    require(actor, Permission.ROUTES_WRITE)
    require_all(actor, UPSTREAM, "change routes")


def require_role_change(actor: Principal, role: Role) -> None:
    """Raise Forbidden or Conflict unless the actor can change this role."""
    require(actor, Permission.ROLES_WRITE)
    if role.name == ADMIN:
        raise Conflict("The role admin always has every permission. It cannot be changed.")
    require_all(actor, role.holds, f"change the role {role.name}")


def is_permitted(check: Callable[..., object], *args: object) -> bool:
    """Return whether a check such as `require_routes` passes for these arguments, for interfaces that hide what is denied."""
    try:
        check(*args)
    except (Forbidden, Conflict):
        return False
    return True


def lock_policy() -> Role:
    """Take the one lock that orders all changes of permissions, and return its row, the admin role.

    It is held to the end of the transaction. On SQLite every transaction is IMMEDIATE, so no other one writes meanwhile.
    """
    return Role.objects.select_for_update().get(name=ADMIN)


def check_version(row: Role | Route, version: int | None) -> None:
    """Raise Stale if the caller read another version than the stored one; None accepts any version."""
    if version is not None and version != row.version:
        raise Stale("It was changed by somebody else since you read it. Read it again and repeat your change.")


def get_role(name: str) -> Role:
    """Return the role of that name. Raises Invalid with the names that exist."""
    role = Role.objects.filter(name=name).first()
    return role if role is not None else role_in({known.name: known for known in Role.objects.all()}, name)


def role_in(roles: Mapping[str, Role], name: str) -> Role:
    """Return the role of that name from all roles by name. Raises Invalid with the names that exist."""
    if name not in roles:
        raise Invalid.field("role", f"There is no role named {name!r}. The roles are: {', '.join(sorted(roles))}.")
    return roles[name]


def _stored_role(name: str) -> Role:
    """Return the role that is changed. Raises NotFound, for example if a concurrent request deleted it."""
    try:
        return Role.objects.get(name=name)
    except Role.DoesNotExist:
        raise NotFound(f"There is no role named {name!r}.") from None


def role_table() -> dict[str, frozenset[str]]:
    """Return the effective permissions of every role, by name."""
    return {role.name: role.holds for role in Role.objects.all()}


def route_table() -> Table:
    """Return the compiled route table. Raises BadPattern if a row was written without these services: deny then."""
    rows = Route.objects.values_list("position", "host", "path", "methods", "permission")
    return Table(compile_rule(position=n, host=h, path=p, methods=m, permission=needed) for n, h, p, m, needed in rows)


@transaction.atomic
def create_role(*, actor: Principal, name: str, permissions: Sequence[str] = (), description: str = "") -> Role:
    """Create and return a role. Raises Forbidden, Invalid."""
    require(actor, Permission.ROLES_WRITE)
    if name == FIRST_ADMIN:
        raise Invalid.field("name", f"{FIRST_ADMIN} is a value of RBAC_DEFAULT_ROLE, not a role. Choose another name.")
    lock_policy()
    role = Role(name=name, description=description, permissions=sorted(set(permissions)))
    validate(role)
    require_all(actor, role.holds, f"create the role {name}")
    role.save()
    record(Event.ROLE_CREATED, actor=actor, target=name, data={"permissions": role.permissions})
    return role


@transaction.atomic
def update_role(
    *,
    actor: Principal,
    name: str,
    permissions: Sequence[str] | None = None,
    description: str | None = None,
    version: int | None = None,
) -> Role:
    """Change and return a role; None keeps a value. Raises Forbidden, Invalid, Conflict, NotFound, Stale."""
    require(actor, Permission.ROLES_WRITE)
    lock_policy()
    role = _stored_role(name)
    check_version(role, version)
    require_role_change(actor, role)
    before = role.permissions
    if permissions is not None:
        role.permissions = sorted(set(permissions))
    if description is not None:
        role.description = description
    role.version += 1
    validate(role)
    require_all(actor, role.holds, f"change the role {name}")
    role.save()
    record(Event.ROLE_UPDATED, actor=actor, target=name, data={"old": before, "new": role.permissions})
    return role


@transaction.atomic
def delete_role(*, actor: Principal, name: str, version: int | None = None) -> None:
    """Delete a role that is not in use. Raises Forbidden, Conflict, NotFound, Stale."""
    require(actor, Permission.ROLES_WRITE)
    lock_policy()
    role = _stored_role(name)
    check_version(role, version)
    require_all(actor, role.holds, f"delete the role {name}")
    if role.builtin:
        raise Conflict(f"The role {name} is built in and cannot be deleted.")
    if name == settings.RBAC_DEFAULT_ROLE and name != FIRST_ADMIN:
        raise Conflict(f"The role {name} is the default role of new users (RBAC_DEFAULT_ROLE).")
    if _is_used(role):
        raise Conflict(f"The role {name} is still in use. Give its users, service accounts and groups another role first.")
    role.delete()
    record(Event.ROLE_DELETED, actor=actor, target=name, data={"permissions": role.permissions})


def _is_used(role: Role) -> bool:
    """Return whether a row has the role. Django would read all of them to find out."""
    relations = [relation for relation in Role._meta.related_objects if relation.on_delete is models.PROTECT]
    return any(relation.related_model._base_manager.filter(**{relation.field.name: role}).exists() for relation in relations)


def _route(spec: RouteSpec, position: int) -> Route:
    """Return the validated, unsaved row of a route. Raises Invalid."""
    row = Route(
        position=position,
        host=spec.host,
        path=spec.path,
        methods=list(spec.methods),
        permission=spec.permission,
        note=spec.note,
    )
    validate(row)
    return row


def validate_route(spec: RouteSpec, position: int) -> None:
    """Raise Invalid unless the route can be stored at this position."""
    _route(spec, position)


def _renumber(rows: Sequence[Route]) -> None:
    """Give the rows the positions 1, 2, 3…, and save the stored ones that move."""
    moved = [(row, n) for n, row in enumerate(rows, 1) if row.position != n]
    for row, n in moved:
        row.position = n
    Route.objects.bulk_update([row for row, _ in moved if not row._state.adding], ["position"])


def check_table_tag(rows: Iterable[Route], if_match: str | None) -> None:
    """Raise Stale unless `if_match`, the `table_tag` that the caller read, is that of these rows; None accepts any table."""
    if if_match is not None and if_match != table_tag(rows):
        raise Stale("The routes were changed by somebody else since you read them. Read them again and repeat your change.")


@transaction.atomic
def create_route(*, actor: Principal, spec: RouteSpec, position: int | None = None, if_match: str | None = None) -> Route:
    """Insert a route before the one at `position`, and return it. Raises Forbidden, Invalid, Stale.

    Without a position, it is inserted at the last one at which it can decide a request: before a catch-all route, for example.
    """
    require_routes(actor)
    lock_policy()
    rows = list(Route.objects.all())
    check_table_tag(rows, if_match)
    row = _route(spec, 1)
    if position is None:
        position = last_useful_position([other.spec for other in rows], spec)
    _renumber(insert_at(rows, row, position))
    row.save()
    record(Event.ROUTE_CREATED, actor=actor, target=str(row), data=_audit_values(row))
    return row


@transaction.atomic
def update_route(
    *,
    actor: Principal,
    pk: int,
    changes: dict[str, Any],
    position: int | None = None,
    version: int | None = None,
    if_match: str | None = None,
) -> Route:
    """Change fields of RouteSpec on one route, move it to `position` if there is one, and return it.

    Raises Forbidden, Invalid, NotFound, Stale.
    """
    require_routes(actor)
    lock_policy()
    row = _get_route(pk)
    check_version(row, version)
    rows = list(Route.objects.all()) if if_match is not None or position is not None else []
    check_table_tag(rows, if_match)
    before = _audit_values(row)
    for name in ("host", "path", "permission", "note"):
        setattr(row, name, changes.get(name, getattr(row, name)))
    row.methods = list(changes.get("methods", row.methods))
    row.version += 1
    if position is not None:
        _renumber(insert_at([other for other in rows if other.pk != pk], row, position))
    validate(row)
    row.save()
    record(Event.ROUTE_UPDATED, actor=actor, target=str(row), data={"old": before, "new": _audit_values(row)})
    return row


@transaction.atomic
def delete_route(*, actor: Principal, pk: int, version: int | None = None, if_match: str | None = None) -> None:
    """Delete one route and renumber the others. Raises Forbidden, NotFound, Stale."""
    require_routes(actor)
    lock_policy()
    row = _get_route(pk)
    check_version(row, version)
    check_table_tag(Route.objects.all(), if_match)
    values, text = _audit_values(row), str(row)
    row.delete()
    _renumber(list(Route.objects.all()))
    record(Event.ROUTE_DELETED, actor=actor, target=text, data=values)


@transaction.atomic
def reorder_routes(*, actor: Principal, order: Sequence[int], if_match: str | None = None) -> list[Route]:
    """Order the routes by these ids and return them. `if_match` is the `table_tag` that the caller read.

    Raises Forbidden, Stale, and Invalid unless every route is named exactly once.
    """
    require_routes(actor)
    lock_policy()
    rows = {row.pk: row for row in Route.objects.all()}
    check_table_tag(rows.values(), if_match)
    if sorted(order) != sorted(rows):
        raise Invalid.field("order", "Name every route exactly once.")
    _renumber([rows[pk] for pk in order])
    record(Event.ROUTES_REORDERED, actor=actor, target="routes", data={"order": list(order)})
    return list(Route.objects.all())


@transaction.atomic
def replace_routes(*, actor: Principal, specs: Sequence[RouteSpec], source: str, if_match: str | None = None) -> list[Route]:
    """Replace the whole route table and return it; all of it or, on the first invalid route, none.

    A table that has these routes already is neither written nor recorded. Raises Forbidden, Invalid, Stale.
    """
    require_routes(actor)
    lock_policy()
    stored = list(Route.objects.all())
    check_table_tag(stored, if_match)
    rows = [_route(spec, n) for n, spec in enumerate(specs, 1)]
    if [row.spec for row in stored] == list(specs):
        return stored
    before = [_audit_values(row) for row in stored]
    Route.objects.all().delete()
    Route.objects.bulk_create(rows)
    record(Event.ROUTES_REPLACED, actor=actor, target="routes", reason=f"from {source}", data={"old": before})
    return list(Route.objects.all())


def load_pack(*, actor: Principal, name: str, if_match: str | None = None) -> list[Route]:
    """Replace the whole route table by a policy pack, as `replace_routes` does, and return it.

    Raises Forbidden, NotFound, Stale.
    """
    return replace_routes(actor=actor, specs=packs.load(name).routes, source=f"pack {name}", if_match=if_match)


def table_tag(rows: Iterable[Route]) -> str:
    """Return the entity tag of the route table, which changes with every route and with their order."""
    state = ",".join(f"{row.pk}.{row.version}" for row in sorted(rows, key=lambda row: (row.position, row.pk)))
    return hashlib.sha256(state.encode()).hexdigest()[:16]


def _get_route(pk: int) -> Route:
    """Return the route. Raises NotFound."""
    try:
        return Route.objects.get(pk=pk)
    except Route.DoesNotExist:
        raise NotFound("There is no such route.") from None


def _audit_values(row: Route) -> dict[str, Any]:
    """Return the values of a route that the audit log keeps."""
    return {
        "position": row.position,
        "host": row.host,
        "path": row.path,
        "methods": row.methods,
        "permission": row.permission,
    }
