"""Services for group roles: which role a group of the identity provider gives."""

from django.db import transaction

from accounts import group_names
from accounts.models import GroupRole
from audit.events import Event
from audit.record import record
from core.errors import Conflict, Invalid, NotFound, Stale
from rbac.models import Role
from rbac.permissions import Permission
from rbac.principals import Principal
from rbac.services import get_role, lock_policy, require, require_all
from rbac.validation import validate


def get_group_role(group: str) -> GroupRole:
    """Return the group's row. Raises NotFound."""
    try:
        return GroupRole.objects.select_related("role").get(group=group)
    except GroupRole.DoesNotExist:
        raise NotFound(f"The group {group!r} has no role.") from None


def require_change(actor: Principal, row: GroupRole) -> None:
    """Raise Forbidden unless the actor can change or delete this group role."""
    require(actor, Permission.ROLES_WRITE)
    require_all(actor, row.role.holds, f"change the group {row.group}")


def next_in_line(row: GroupRole, priority: int | None) -> list[Role]:
    """Return the roles that can count for members of this group once it has this `priority`; None stands for its deletion.

    They are the roles of the groups that it no longer comes before. Groups of equal priority count as both before and after it.
    """
    later = GroupRole.objects.select_related("role").filter(priority__gte=row.priority).exclude(pk=row.pk)
    if priority is not None:
        later = later.filter(priority__lte=priority) if priority > row.priority else later.none()
    return [other.role for other in later]


def _require_next(actor: Principal, row: GroupRole, priority: int | None) -> None:
    """Raise Forbidden if a group that gives more than the actor has would decide in place of this one (promise 30)."""
    held = frozenset[str]().union(*(role.holds for role in next_in_line(row, priority)))
    require_all(actor, held, f"let other groups decide before the group {row.group}")


def _locked(actor: Principal, group: str, if_match: tuple[str, int] | None) -> GroupRole:
    """Take the policy lock and return the group's row as stored now. Raises Forbidden, NotFound, Stale."""
    require(actor, Permission.ROLES_WRITE)
    lock_policy()
    row = get_group_role(group)
    if if_match is not None and if_match != (row.role.name, row.priority):
        raise Stale("It was changed by somebody else since you read it. Read it again and repeat your change.")
    require_change(actor, row)
    return row


@transaction.atomic
def create_group_role(*, actor: Principal, group: str, role: str, priority: int = 100) -> GroupRole:
    """Give the members of a group a role. `accounts.group_names` has the rule whether a group can give one at the moment.

    Raises Forbidden, Conflict, and Invalid, also for a name that no group can have.
    """
    require(actor, Permission.ROLES_WRITE)
    if problem := group_names.never_matches(group):
        raise Invalid.field("group", problem)
    lock_policy()
    if GroupRole.objects.filter(group=group).exists():
        raise Conflict(f"The group {group!r} already has a role.", fields={"group": ["This group already has a role."]})
    row = GroupRole(group=group, role=get_role(role), priority=priority)
    require_all(actor, row.role.holds, f"give a group the role {role}")
    validate(row)
    row.save()
    record(Event.GROUP_ROLE_CREATED, actor=actor, target=group, data={"role": role, "priority": priority})
    return row


@transaction.atomic
def update_group_role(
    *,
    actor: Principal,
    group: str,
    role: str | None = None,
    priority: int | None = None,
    if_match: tuple[str, int] | None = None,
) -> GroupRole:
    """Change which role a group gives, or its priority; `if_match` is the role and the priority that the caller read.

    A higher number lets the groups after it decide for their common members, so the actor needs the permissions of their roles.
    Raises Forbidden, Invalid, NotFound, Stale.
    """
    row = _locked(actor, group, if_match)
    before = {"role": row.role.name, "priority": row.priority}
    if priority is not None:
        _require_next(actor, row, priority)
    row.role = row.role if role is None else get_role(role)
    row.priority = row.priority if priority is None else priority
    require_all(actor, row.role.holds, f"give a group the role {row.role.name}")
    validate(row)
    after = {"role": row.role.name, "priority": row.priority}
    if after != before:
        row.save()
        record(Event.GROUP_ROLE_UPDATED, actor=actor, target=group, data={"old": before, "new": after})
    return row


@transaction.atomic
def delete_group_role(*, actor: Principal, group: str, if_match: tuple[str, int] | None = None) -> None:
    """Delete the role of a group. Its members lose the role at their next request through single sign-on.

    Groups with a higher number then decide for their common members, so the actor needs the permissions of their roles.
    `if_match` is as for a change. Raises Forbidden, NotFound, Stale.
    """
    row = _locked(actor, group, if_match)
    _require_next(actor, row, None)
    row.delete()
    record(Event.GROUP_ROLE_DELETED, actor=actor, target=group, data={"role": row.role.name})
