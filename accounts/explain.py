"""What would anybody be answered, and why: the verify endpoint's own steps, taken for somebody who shows no credential."""

from dataclasses import dataclass, replace
from enum import StrEnum

from django.conf import settings

from accounts import principals
from accounts.identifiers import ACCOUNT_PREFIX
from accounts.models import ServiceAccount, User
from accounts.passwords import shared_hash
from accounts.principals import ANONYMOUS, Kind, Method, Principal
from core.errors import Conflict, Forbidden, NotFound
from core.paths import AmbiguousPath, split_path
from rbac.patterns import BadPattern
from rbac.permissions import Permission, within
from rbac.policy import Explanation, unreadable
from rbac.policy import explain as explain_request
from rbac.routes import Target, valid_host, valid_method
from rbac.services import role_table, route_table


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
class Explained:
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


def explain(*, who: str, method: str, host: str = "", path: str) -> Explained:
    """Return what `who` would be answered: a user's or a service account's name or id, or "anonymous".

    `host` empty asks about routes for any host. What cannot be read in exactly one way is explained as the denial that it
    would be. Raises NotFound, and Conflict where the route table itself cannot be read.
    """
    principal, standing = find(who)
    return explained(principal, standing, method=method, host=host, path=path)


def explain_to(*, actor: Principal, who: str = "", method: str, host: str = "", path: str) -> Explained:
    """Return what `explain` does, to somebody who may ask: about oneself (`who` empty, or one's own name) anybody may.

    Raises Forbidden, whether or not there is such a principal, NotFound, Conflict.
    """
    about_self = not who or _is(actor, who)
    if not about_self and not actor.holds(Permission.POLICY_EXPLAIN):
        raise Forbidden(
            f"To ask about others you need the permission {Permission.POLICY_EXPLAIN}, which your role does not hold."
        )
    principal, standing = (actor, Standing.GOOD) if about_self else find(who)
    return explained(principal, standing, method=method, host=host, path=path)


def _is(actor: Principal, who: str) -> bool:
    """Return whether `who` names the actor, and not somebody whose name happens to be the actor's id."""
    try:
        return find(who)[0].uid == actor.uid
    except NotFound:
        return False


def find(who: str) -> tuple[Principal, Standing]:
    """Return the principal of that name or id as it would be after a good sign-in, and its standing. Raises NotFound."""
    if who.lower() == ANONYMOUS.name and not User.objects.filter(username=who.lower()).exists():
        return ANONYMOUS, Standing.GOOD
    if shared_hash(who) is not None:  # it answers in the place of whoever else has the name
        return principals.shared(who, ""), Standing.GOOD
    users = User.objects.select_related("role")
    accounts = ServiceAccount.objects.select_related("role", "owner", "owner__role")
    if user := users.filter(username=who.lower()).first():
        return person(user)
    if account := accounts.filter(name=who.lower()).first():
        return machine(account)
    if who.startswith(ACCOUNT_PREFIX) and (account := accounts.filter(uid=who).first()):
        return machine(account)
    if user := users.filter(uid=who).first():
        return person(user)
    raise NotFound(f"There is no user and no service account {who!r}.")


def person(user: User) -> tuple[Principal, Standing]:
    """Return the principal of a user, and its standing."""
    principal = Principal(
        Kind.USER,
        user.uid,
        user.username,
        role=user.role.name,
        permissions=user.role.holds,
        pk=user.pk,
        owner=user.pk,
        display_name=user.display_name,
        email=user.email,
    )
    return principal, Standing.GOOD if user.is_active else Standing.DISABLED_USER


def machine(account: ServiceAccount) -> tuple[Principal, Standing]:
    """Return the principal of a service account, and its standing."""
    role, held = account.role.name, account.role.holds
    if account.owner is not None:
        role, held = within(role, held, account.owner.role.name, account.owner.role.holds)
    principal = Principal(
        Kind.SERVICE_ACCOUNT,
        account.uid,
        account.name,
        role=role,
        permissions=held,
        method=Method.BEARER,
        pk=account.pk,
        owner=account.owner_id,
    )
    if not settings.ENABLE_SERVICE_ACCOUNTS:
        return principal, Standing.SWITCHED_OFF
    if not account.is_active:
        return principal, Standing.DISABLED_ACCOUNT
    owner_stopped = account.owner is not None and not account.owner.is_active
    return principal, Standing.DISABLED_OWNER if owner_stopped else Standing.GOOD


def explained(principal: Principal, standing: Standing, *, method: str, host: str, path: str) -> Explained:
    """Return what a principal of this standing would be answered. Raises Conflict."""
    explanation = _decide(principal.permissions, method=method, host=host, path=path)
    decision = explanation.decision
    if standing is not Standing.GOOD:
        allowed, status, reason, message = False, 401, str(standing), _MEANINGS[standing]
    else:
        allowed, reason, message = decision.allowed, str(decision.reason), decision.message
        # Whoever has not signed in is asked to, first.
        status = 200 if allowed else 403 if principal.is_authenticated or decision.whoever_asks else 401
    return Explained(
        replace(principal, peer=""),
        standing,
        allowed,
        status,
        reason,
        message,
        decision.needed,
        decision.rule,
        explanation.roles,
    )


def _decide(held: frozenset[str], *, method: str, host: str, path: str) -> Explanation:
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]") or not (port.isascii() and port.isdigit()):
        name = host
    name = name.lower().removesuffix(".")
    if not valid_method(method):
        return Explanation(unreadable("The method is not a method in upper case."), ())
    if host and not valid_host(name):
        return Explanation(unreadable("The host is not a host name or address."), ())
    try:
        segments = split_path(path)
    except AmbiguousPath as error:
        return Explanation(unreadable(str(error)), ())
    try:
        table = route_table()
    except BadPattern:
        raise Conflict("A stored route cannot be read, so every request is answered 503. Correct the routes.") from None
    return explain_request(held, Target(method, name, segments, path.partition("?")[0]), table, role_table())
