"""What a user confirms before administrative permissions are given (promise 55)."""

from collections.abc import Iterable

from rbac.permissions import ADMINISTRATIVE
from rbac.principals import Principal


def gained(before: Iterable[str], after: Iterable[str]) -> list[str]:
    """Return the administrative permissions that a change from `before` to `after` adds, sorted."""
    return sorted((frozenset(after) - frozenset(before)) & ADMINISTRATIVE)


def statement(actor: Principal, doing: str, before: Iterable[str], after: Iterable[str]) -> str:
    """Return the sentence that the actor confirms: what they are `doing`, and the administrative permissions that it adds.

    Returns "" for a change that adds none, and for one that the services refuse because the actor lacks some of them. `doing`
    names the object, the old and the new value.
    """
    names = gained(before, after)
    if not actor.permissions.issuperset(names):
        return ""
    return f"{doing}. This adds the administrative permission{'s' if len(names) > 1 else ''} {', '.join(names)}." if names else ""


def to_role(
    actor: Principal, name: str, permissions: Iterable[str], before: Iterable[str] | None = None, holders: int = 0
) -> str:
    """Return the sentence for the permissions of a role; without `before`, the role is new.

    `holders` is the number of users, service accounts and groups that have the role.
    """
    if before is None:
        return statement(actor, f"Create the role {name}", (), permissions)
    return statement(
        actor, f"Change the role {name}, which {holders} users, service accounts and groups have", before, permissions
    )
