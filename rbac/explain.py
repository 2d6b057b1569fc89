"""What the gateway would answer to a principal, and why: the steps of the verify endpoint without a credential."""

from dataclasses import dataclass, replace
from enum import StrEnum

from core.errors import Conflict
from core.paths import AmbiguousPath, split_path
from rbac.patterns import BadPattern
from rbac.permissions import Permission
from rbac.policy import DecisionWithRoles, decide_with_roles, refusal_status, unreadable
from rbac.principals import Principal
from rbac.services import role_table, route_table
from rbac.targets import Target, UnreadableTarget, parse_target, valid_method


class Standing(StrEnum):
    """Whether somebody's credentials are good at all; all but the first are answered 401 before any route is looked at."""

    GOOD = "good"
    DISABLED_USER = "disabled-user"
    DISABLED_ACCOUNT = "disabled-service-account"
    DISABLED_OWNER = "disabled-owner"
    SWITCHED_OFF = "service-accounts-switched-off"


_MEANINGS = {
    Standing.DISABLED_USER: "This user is disabled: every credential of theirs is refused.",
    Standing.DISABLED_ACCOUNT: "This service account is disabled: every token of it is refused.",
    Standing.DISABLED_OWNER: "The owner of this service account is disabled: every token of it is refused.",
    Standing.SWITCHED_OFF: "Service accounts are switched off (ENABLE_SERVICE_ACCOUNTS=false): every token is refused.",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `principal` would be answered. `status` is that of the verify endpoint; `reason` is a stable word.

    `needed`, `rule` and `roles` are about the route, also where the standing alone decides; `roles` are those that would
    have been let through.
    """

    principal: Principal
    standing: Standing
    allowed: bool
    status: int
    reason: str
    message: str
    needed: Permission | None
    rule: str
    roles: tuple[str, ...]


def explain(principal: Principal, standing: Standing, *, method: str, host: str = "", path: str) -> Explanation:
    """Return what the gateway would answer to a principal of this standing. `host` empty stands for routes of any host.

    A method, host or path that cannot be read is explained as the denial that it would be. Raises Conflict where the route
    table itself cannot be read.
    """
    with_roles = _decide(principal.permissions, method=method, host=host, path=path)
    decision = with_roles.decision
    if standing is not Standing.GOOD:
        allowed, status, reason, message = False, 401, str(standing), _MEANINGS[standing]
    else:
        allowed, reason, message = decision.allowed, str(decision.reason), decision.message
        status = 200 if allowed else refusal_status(decision, authenticated=principal.is_authenticated)
    return Explanation(
        replace(principal, peer=""),
        standing,
        allowed,
        status,
        reason,
        message,
        decision.needed,
        decision.rule,
        with_roles.roles,
    )


def _decide(held: frozenset[str], *, method: str, host: str, path: str) -> DecisionWithRoles:
    try:
        target = _target(method, host, path)
    except UnreadableTarget as error:
        return DecisionWithRoles(unreadable(str(error)), ())
    try:
        table = route_table()
    except BadPattern:
        raise Conflict("A stored route cannot be read, so every request is answered 503. Correct the routes.") from None
    return decide_with_roles(held, target, table, role_table())


def _target(method: str, host: str, path: str) -> Target:
    """Return the target as the gateway would read it; one without a host is for this module alone. Raises UnreadableTarget."""
    text = path.partition("?")[0]
    if host:
        return parse_target(method, host, text)
    if not valid_method(method):
        raise UnreadableTarget("The method is not a method in upper case.")
    try:
        return Target(method, "", split_path(text), text)
    except AmbiguousPath as error:
        raise UnreadableTarget(str(error)) from None
