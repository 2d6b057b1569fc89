"""What the gateway answers to a principal, and why: the steps of the verify endpoint without a credential."""

from dataclasses import dataclass, replace
from enum import StrEnum

from core.errors import Conflict
from rbac.patterns import BadPattern
from rbac.permissions import Permission
from rbac.policy import DecisionWithRoles, decide_with_roles, refusal_status, unreadable
from rbac.principals import Principal
from rbac.services import role_table, route_table
from rbac.targets import UnreadableTarget, parse_target, parse_target_on_any_host


class CredentialStatus(StrEnum):
    """Whether the credentials of a principal are accepted. All but `GOOD` are answered 401, whatever the routes are."""

    GOOD = "good"
    DISABLED_USER = "disabled-user"
    DISABLED_ACCOUNT = "disabled-service-account"
    DISABLED_OWNER = "disabled-owner"
    SWITCHED_OFF = "service-accounts-switched-off"


_MEANINGS = {
    CredentialStatus.DISABLED_USER: "This user is disabled: every credential of theirs is refused.",
    CredentialStatus.DISABLED_ACCOUNT: "This service account is disabled: every token of it is refused.",
    CredentialStatus.DISABLED_OWNER: "The owner of this service account is disabled: every token of it is refused.",
    CredentialStatus.SWITCHED_OFF: "Service accounts are switched off (ENABLE_SERVICE_ACCOUNTS=false): every token is refused.",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer of the gateway to `principal`: `status` is the verify endpoint's, `reason` is a stable word.

    `needed`, `rule` and `roles` are those of the matching route, also where the credentials alone decide. `roles` are the names
    of the roles that hold `needed`.
    """

    principal: Principal
    standing: CredentialStatus
    allowed: bool
    status: int
    reason: str
    message: str
    needed: Permission | None
    rule: str
    roles: tuple[str, ...]


def explain(principal: Principal, standing: CredentialStatus, *, method: str, host: str = "", path: str) -> Explanation:
    """Return what the gateway answers to a principal with credentials of this status.

    With an empty `host`, only routes of any host match.

    `path` may have a query, which is ignored. A method, host or path that cannot be parsed is explained as the denial that it
    leads to. Raises Conflict where a stored route cannot be compiled.
    """
    with_roles = _decide(principal.permissions, method=method, host=host, path=path)
    decision = with_roles.decision
    if standing is not CredentialStatus.GOOD:
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
        target = parse_target(method, host, path) if host else parse_target_on_any_host(method, path)
    except UnreadableTarget as error:
        return DecisionWithRoles(unreadable(str(error)), ())
    try:
        table = route_table()
    except BadPattern:
        raise Conflict("A stored route cannot be read, so every request is answered 503. Correct the routes.") from None
    return decide_with_roles(held, target, table, role_table())
