"""What a change of the rules would do, tried against the last requests that were judged, before it is saved."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from accounts import explain
from accounts.decisions import standing_as
from accounts.models import RecentRequest, ServiceAccount, User
from accounts.principals import Kind, Principal
from core.errors import Conflict
from core.paths import AmbiguousPath, split_path
from rbac import services
from rbac.models import Role
from rbac.packs import RouteSpec
from rbac.patterns import BadPattern
from rbac.permissions import ADMIN, Permission, granted
from rbac.policy import Decision, decide_request
from rbac.routes import Table, Target, compile_rule


@dataclass(frozen=True, slots=True)
class Effect:
    """A request that would be answered otherwise: `before` and `after` differ in whether it is let through."""

    request: RecentRequest
    before: Decision
    after: Decision

    @property
    def gained(self) -> bool:
        """Whether the caller would gain by the change, and not lose."""
        return self.after.allowed


@dataclass(frozen=True, slots=True)
class Preview:
    """What a change would do: the requests that would be answered otherwise, the newest first, of how many that were tried."""

    effects: tuple[Effect, ...]
    tried: int

    @property
    def gained(self) -> tuple[Effect, ...]:
        """The requests that would be let through from now on."""
        return tuple(effect for effect in self.effects if effect.gained)

    @property
    def lost(self) -> tuple[Effect, ...]:
        """The requests that would be refused from now on."""
        return tuple(effect for effect in self.effects if not effect.gained)


def of_routes(*, actor: Principal, specs: Sequence[RouteSpec]) -> Preview:
    """Return what these routes would do in the place of those that there are. Changes nothing.

    Raises Forbidden unless the actor may read routes and ask about others, Invalid for a route that cannot be, and Conflict
    where a stored one cannot be read.
    """
    services.require(actor, Permission.ROUTES_READ)
    services.require(actor, Permission.POLICY_EXPLAIN)
    return _preview(_stored_table(), _table(specs), lambda role: role)


def of_role(*, actor: Principal, name: str, permissions: Iterable[str]) -> Preview:
    """Return what a role would do that held these permissions. Changes nothing. Raises Forbidden, Invalid, Conflict."""
    services.require(actor, Permission.ROLES_READ)
    services.require(actor, Permission.POLICY_EXPLAIN)
    stored = services.get_role(name)
    if name == ADMIN:
        raise Conflict("The role admin always holds everything; it cannot be changed.")
    changed = Role(pk=stored.pk, name=stored.name, permissions=sorted(granted(name, list(permissions))))
    table = _stored_table()
    return _preview(table, table, lambda role: changed if role.pk == changed.pk else role)


def _stored_table() -> Table:
    try:
        return services.route_table()
    except BadPattern:
        raise Conflict("A stored route cannot be read, so every request is answered 503. Correct the routes.") from None


def _table(specs: Sequence[RouteSpec]) -> Table:
    rules = []
    for number, spec in enumerate(specs, 1):
        services.validate_route(spec, number)
        rules.append(
            compile_rule(position=number, host=spec.host, path=spec.path, methods=spec.methods, permission=spec.permission)
        )
    return Table(rules)


def _preview(before: Table, after: Table, changed: Callable[[Role], Role]) -> Preview:
    requests = list(RecentRequest.objects.order_by("-at", "-pk"))
    now, then = _callers(requests, lambda role: role), _callers(requests, changed)
    effects: list[Effect] = []
    tried = 0
    for request in requests:
        who = request.caller_kind, request.caller_uid
        target = _target(request)
        if who not in now or target is None:
            continue
        tried += 1
        effect = Effect(request, decide_request(now[who], target, before), decide_request(then[who], target, after))
        if effect.before.allowed is not effect.after.allowed:
            effects.append(effect)
    return Preview(tuple(effects), tried)


def _target(request: RecentRequest) -> Target | None:
    try:
        return Target(request.method, request.host, split_path(request.path), request.path)
    except AmbiguousPath:
        return None


def _callers(requests: Sequence[RecentRequest], changed: Callable[[Role], Role]) -> dict[tuple[str, str], frozenset[str]]:
    """Return what each caller of the requests holds today, if roles are changed like that; nobody who is not let in at all."""
    uids = {kind: {request.caller_uid for request in requests if request.caller_kind == kind} for kind in Kind}
    found: dict[tuple[str, str], frozenset[str]] = {}

    def add(kind: Kind, uid: str, principal: Principal, standing: explain.Standing) -> None:
        if standing is explain.Standing.GOOD:
            found[kind, uid] = principal.permissions

    for user in User.objects.select_related("role").filter(uid__in=uids[Kind.USER]):
        user.role = changed(user.role)
        add(Kind.USER, user.uid, *explain.person(user))
    accounts = ServiceAccount.objects.select_related("role", "owner", "owner__role")
    for account in accounts.filter(uid__in=uids[Kind.SERVICE_ACCOUNT]):
        account.role = changed(account.role)
        if account.owner is not None:
            account.owner.role = changed(account.owner.role)
        add(Kind.SERVICE_ACCOUNT, account.uid, *explain.machine(account))
    for kind in (Kind.ANONYMOUS, Kind.SHARED):
        for request in requests:
            if request.caller_kind == kind and (who := standing_as(kind, request.caller_uid, request.caller)) is not None:
                add(kind, request.caller_uid, *who)
    return found
