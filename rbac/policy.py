"""The decision: is a principal with these permissions allowed to do what requires that permission, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from rbac.permissions import Permission
from rbac.routes import Table
from rbac.targets import Target


class Reason(StrEnum):
    """The reason of a decision, a stable word for logs, metrics and scripts."""

    CROSS_ORIGIN = "cross-origin"
    GRANTED = "granted"
    HEADERS_TOO_LARGE = "headers-too-large"
    NO_ROUTE = "no-route"
    NOT_PERMITTED = "not-permitted"
    UNKNOWN_PERMISSION = "unknown-permission"
    UNREADABLE_TARGET = "unreadable-target"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request is allowed, the reason as a word and as a message, the required permission and the matching rule."""

    allowed: bool
    reason: Reason
    message: str
    needed: Permission | None = None
    rule: str = ""

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def is_request_fault(self) -> bool:
        """Whether the request itself is at fault, so that signing in would not help."""
        return self.reason in (Reason.UNREADABLE_TARGET, Reason.HEADERS_TOO_LARGE, Reason.CROSS_ORIGIN)


@lru_cache(4_096)  # there are few roles and rules, so each pair is decided once
def decide(held: frozenset[str], needed: Permission | None, rule: str = "") -> Decision:
    """Return whether `held` contains `needed`; None, for a permission that does not exist, is denied to everybody."""
    if needed is None:
        return Decision(False, Reason.UNKNOWN_PERMISSION, "The route requires a permission that does not exist.", None, rule)
    if needed in held:
        return Decision(True, Reason.GRANTED, f"Granted by {needed}.", needed, rule)
    return Decision(False, Reason.NOT_PERMITTED, f"This requires {needed}, which the role does not have.", needed, rule)


def decide_request(held: frozenset[str], target: Target, table: Table) -> Decision:
    """Return whether `held` may make the request: the first matching rule names the permission; without one it is denied."""
    rule = table.first_match(target)
    if rule is None:
        return Decision(False, Reason.NO_ROUTE, "No route allows this method and path.")
    return decide(held, rule.permission, rule.text)


def refusal_status(decision: Decision, *, authenticated: bool) -> int:
    """Return the HTTP status of a denial: 401 if signing in may help, else 403."""
    return 403 if authenticated or decision.is_request_fault else 401


def unreadable(message: str) -> Decision:
    """Return the denial of a request whose method, host or path cannot be read in exactly one way."""
    return Decision(False, Reason.UNREADABLE_TARGET, message)


def cross_origin() -> Decision:
    """Return the denial of a request that a page of another origin sent with its visitor's credential."""
    return Decision(False, Reason.CROSS_ORIGIN, "A page of another origin sent this request with a credential of its visitor.")


def too_large() -> Decision:
    """Return the denial of a request whose header section is too large."""
    return Decision(False, Reason.HEADERS_TOO_LARGE, "The header section is too large.")


def holders(needed: Permission | None, roles: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """Return the names of the roles with this permission, sorted."""
    return tuple(sorted(name for name, holds in roles.items() if needed is not None and needed in holds))


@dataclass(frozen=True, slots=True)
class DecisionWithRoles:
    """A decision, and the names of the roles that have the required permission."""

    decision: Decision
    roles: tuple[str, ...]


def decide_with_roles(
    held: frozenset[str], target: Target, table: Table, roles: Mapping[str, frozenset[str]]
) -> DecisionWithRoles:
    """Return the decision of `decide_request`, and the roles with the required permission."""
    decision = decide_request(held, target, table)
    return DecisionWithRoles(decision, holders(decision.needed, roles))
