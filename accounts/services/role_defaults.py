"""The role of a user or service account created without one: the least for an admin, the configured one for first sign-ins."""

from collections.abc import Mapping
from typing import Final

from django.conf import settings

from accounts.models import FirstAdmin, User
from core.errors import Invalid
from rbac.fallback import lesser_role
from rbac.models import Role
from rbac.permissions import ADMIN, FIRST_ADMIN
from rbac.principals import Principal
from rbac.services import get_role, role_table

LEAST: Final = ("user", "viewer")


def default_role(actor: Principal | None = None) -> Role:
    """Return the role of RBAC_DEFAULT_ROLE, or the lesser of it and the actor's. Call it under `lock_policy`. Raises Invalid.

    It is for users who sign in for the first time, and for SkyPilot's own way to create users.
    """
    name = settings.RBAC_DEFAULT_ROLE
    if name == FIRST_ADMIN:
        name = ADMIN if first_admin_is_open() else "user"
    role = get_role(name)
    if actor is not None and not role.holds <= actor.permissions:
        return get_role(lesser_role(role.name, actor.role, role_table()))
    return role


def first_admin_is_open() -> bool:
    """Return whether this installation never had an admin. Call it under `lock_policy`."""
    return not FirstAdmin.objects.exists() and not User.objects.filter(role__name=ADMIN).exists()


def least_role(actor: Principal, owner: Role | None = None) -> Role:
    """Return the role of a user or service account that the actor creates without naming one. Raises Invalid."""
    names = (settings.RBAC_DEFAULT_ROLE, *LEAST)
    return least_of({role.name: role for role in Role.objects.filter(name__in=names)}, actor, owner)


def least_of(roles: Mapping[str, Role], actor: Principal, owner: Role | None = None) -> Role:
    """Return the role of these that a user or service account gets without one (promise 49).

    It is `user`, or the role of RBAC_DEFAULT_ROLE if that has fewer permissions, or `viewer`: the first that has no permission
    that the actor or the `owner` of a service account lacks. Raises Invalid if each has one.
    """
    # Older versions could store a role of the name first-admin, which the setting does not mean.
    names = [name for name in (settings.RBAC_DEFAULT_ROLE, *LEAST) if name != FIRST_ADMIN]
    limit = actor.permissions if owner is None else actor.permissions & owner.holds
    most = roles["user"].holds
    for name in names:
        role = roles.get(name)
        if role is not None and role.holds <= most & limit:
            return role
    whom = "you lack" if owner is None else "you or the owner lack"
    raise Invalid.field("role", f"Name the role: {whom} permissions of the default role user.")
