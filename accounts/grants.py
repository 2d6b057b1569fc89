"""What a user confirms before a user, a service account or a group gets administrative permissions (promise 55).

Each function returns the sentence that names the object, the old and the new value, or "" if the change adds none of these
permissions.
"""

from accounts.models import GroupRole, ServiceAccount, User
from accounts.services import groups
from rbac.grants import statement
from rbac.models import Role
from rbac.principals import Principal


def to_user(actor: Principal, username: str, role: Role, before: Role | None = None) -> str:
    """Return the sentence for a user's role; without `before`, the user is new."""
    if before is None:
        return statement(actor, f"Create the user {username} with the role {role.name}", (), role.holds)
    return statement(actor, f"Change the role of {username} from {before.name} to {role.name}", before.holds, role.holds)


def to_account(actor: Principal, name: str, role: Role, owner: User | None, before: ServiceAccount | None = None) -> str:
    """Return the sentence for the role and the owner of a service account; without `before`, the account is new."""
    after = _effective(role, owner)
    if before is None:
        return statement(actor, f"Create the service account {name} with the role {role.name}", (), after)
    changes = []
    if role != before.role:
        changes.append(f"the role of the service account {name} from {before.role.name} to {role.name}")
    if owner != before.owner:
        changes.append(f"the owner of {name} from {before.owner or 'none'} to {owner or 'none'}")
    return statement(actor, f"Change {' and '.join(changes)}", _effective(before.role, before.owner), after) if changes else ""


def _effective(role: Role, owner: User | None) -> frozenset[str]:
    return role.holds if owner is None else role.holds & owner.role.holds


def to_group(actor: Principal, group: str, role: Role, priority: int, before: GroupRole | None = None) -> str:
    """Return the sentence for the role of a group; without `before`, the group is new.

    A lower priority number adds members. A higher one lets other groups decide for the members.
    """
    doing = f"Map the group {group} to the role {role.name} with priority {priority}"
    if before is None or priority < before.priority:
        return statement(actor, doing, (), role.holds)
    others = groups.next_in_line(before, priority)
    doing += ", so that other groups can decide for its members" if others else ""
    return statement(actor, doing, before.role.holds, role.holds.union(*(other.holds for other in others)))
