"""Services for deleted users who can return through single sign-on: their names are kept, and an admin can block them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from accounts.models import DeletedUser, RoleSource, User
from audit.events import Event
from audit.record import record
from core.bulk import batches
from core.errors import Invalid, NotFound
from rbac.fallback import lesser_role
from rbac.models import Role
from rbac.permissions import Permission
from rbac.principals import Principal
from rbac.services import lock_policy, require, require_all, role_table

_DELETED: Final = " (deleted)"  # behind the name of a deleted role, so that it is the name of none
BLOCKED: Final = "Your user was deleted, and its name is blocked. Ask an administrator of SkyAuth."


def can_return(user: User) -> bool:
    """Return whether single sign-on would create this user again after a deletion that does not block the name."""
    return "@" in user.username and settings.AUTH_USER_HEADER_FORMAT != "off" and settings.AUTH_CREATE_USERS


def consequence(user: User) -> str:
    """Return what happens when single sign-on sends the name of this user after a deletion, in sentences; "" if it cannot."""
    if "@" not in user.username or settings.AUTH_USER_HEADER_FORMAT == "off":
        return ""
    if not can_return(user):
        return f"Single sign-on creates no users (AUTH_CREATE_USERS=false), so {user.username} cannot return through it."
    if not user.is_active:
        return f"{user.username} is disabled. Therefore the deletion also blocks the name at single sign-on."
    return (
        f"At the next request of {user.username} through single sign-on, SkyAuth creates the user again, with at most the role "
        f"{_role_to_keep(user)} or a role of their groups. To refuse them, disable the user, or delete the user and block the "
        "name."
    )


def _role_to_keep(user: User) -> str:
    """Return the role that limits a user who returns without a group: at most the one that an admin gave before a group did."""
    table, given = role_table(), user.role_before_group
    if user.role_source != RoleSource.GROUP or given is None or given not in table:
        return user.role.name
    return lesser_role(given, user.role.name, table)


def keep(*, actor: Principal, user: User, block: bool | None) -> bool:
    """Keep the name and the role of a user who is being deleted, and return whether the name is blocked.

    None for `block` blocks the name of a disabled user: a deletion must not give a user access again. Names that single sign-on
    cannot send are not kept. Call it under `lock_policy`. Raises Invalid.
    """
    if "@" not in user.username:
        if block:
            raise Invalid.field("block", f"{user.username} is not an e-mail address, so single sign-on cannot send this name.")
        return False
    blocked = not user.is_active if block is None else block
    values: dict[str, Any] = {"role": _role_to_keep(user), "blocked": blocked, "deleted_by": actor.name[:320]}
    DeletedUser.objects.update_or_create(username=user.username, defaults=values)
    return blocked


def forget_role(instance: Role, **kwargs: Any) -> None:  # noqa: ARG001 - a receiver of Django's post_delete
    """Make sure that a later role of the same name does not count as this one, which was deleted (promise 47)."""
    DeletedUser.objects.filter(role=instance.name).update(role=f"{instance.name[: 32 - len(_DELETED)]}{_DELETED}")
    User.objects.filter(role_before_group=instance.name).update(role_before_group=None)


def discard(*, actor: Principal, username: str) -> bool:
    """Delete the entry of a deleted user who is created again, and return whether it was blocked.

    That unblocks the name, so the actor needs what `set_blocked` requires. Raises Forbidden.
    """
    row = DeletedUser.objects.filter(username=username).first()
    if row is None:
        return False
    require_return(actor, row, role_table())
    row.delete()
    return row.blocked


def require_return(actor: Principal, row: DeletedUser, roles: Mapping[str, frozenset[str]]) -> None:
    """Raise Forbidden unless the actor can create this deleted user again. `roles` has the permissions of each role, by name."""
    if row.blocked:
        _require_block_change(actor, row, "unblock", roles)


def remove(keys: Sequence[int]) -> None:
    """Delete the entries of these deleted users, who are created again. Call it after `require_return` of each."""
    for part in batches(keys):
        DeletedUser.objects.filter(pk__in=part).delete()


def find_deleted(username: str) -> DeletedUser:
    """Return the deleted user with this name. Raises NotFound."""
    row = DeletedUser.objects.filter(username=username.lower()).first()
    if row is None:
        raise NotFound(f"There is no deleted user named {username!r}.")
    return row


def _require_block_change(actor: Principal, row: DeletedUser, doing: str, roles: Mapping[str, frozenset[str]]) -> None:
    require_all(actor, roles.get(row.role, frozenset()), f"{doing} {row.username}")


@transaction.atomic
def set_blocked(*, actor: Principal, username: str, blocked: bool) -> DeletedUser:
    """Block the name of a deleted user at single sign-on, or unblock it, and return the row.

    A user who returns has at most the role from before the deletion, so the actor needs the permissions of that role.
    Raises Forbidden, NotFound.
    """
    require(actor, Permission.USERS_WRITE)
    lock_policy()
    row = find_deleted(username)
    _require_block_change(actor, row, "block" if blocked else "unblock", role_table())
    if row.blocked != blocked:
        row.blocked = blocked
        row.save(update_fields=["blocked"])
        record(Event.USER_BLOCKED if blocked else Event.USER_UNBLOCKED, actor=actor, target=row.username)
    return row
