"""Preview a change of routes or of a role with the recent requests, before it is saved."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.errors import Conflict
from core.paths import AmbiguousPath, split_path
from rbac import services
from rbac.models import RecentRequest, Role
from rbac.packs import RouteSpec
from rbac.patterns import BadPattern
from rbac.permissions import ADMIN, Permission, effective_permissions
from rbac.policy import Decision, decide_request
from rbac.principals import Principal
from rbac.routes import Table, compile_rule
from rbac.targets import Target

CallerKey = tuple[str, str]  # kind and uid


class PermissionLookup(Protocol):
    """Finds the permissions of callers, with replaced roles, such as `accounts.principal_lookup.permissions_of`."""

    def __call__(
        self, callers: Iterable[tuple[CallerKey, str]], role_of: Callable[[Role], Role] = ...
    ) -> dict[CallerKey, frozenset[str]]: ...


@dataclass(frozen=True, slots=True)
class Effect:
    """A recent request with another result: `before` and `after` differ in whether it is allowed."""

    request: RecentRequest
    before: Decision
    after: Decision

    @property
    def gained(self) -> bool:
        """Whether the request would be newly allowed; else it would be newly denied."""
        return self.after.allowed


@dataclass(frozen=True, slots=True)
class Preview:
    """The requests with another result after the change, newest first, and how many requests were `tried`."""

    effects: tuple[Effect, ...]
    tried: int

    @property
    def gained(self) -> tuple[Effect, ...]:
        """The requests that would be newly allowed."""
        return tuple(effect for effect in self.effects if effect.gained)

    @property
    def lost(self) -> tuple[Effect, ...]:
        """The requests that would be newly denied."""
        return tuple(effect for effect in self.effects if not effect.gained)


def of_routes(*, actor: Principal, specs: Sequence[RouteSpec], permissions_of: PermissionLookup) -> Preview:
    """Return the effect of these routes in place of the stored ones. Changes nothing.

    Raises Forbidden unless the actor can read routes and explain other callers, Invalid for an invalid route, and Conflict
    if a stored route cannot be read.
    """
    services.require(actor, Permission.ROUTES_READ)
    services.require(actor, Permission.POLICY_EXPLAIN)
    requests = recent_requests()
    before = stored_policy(requests, permissions_of)
    return compare(requests, before, PolicySnapshot(_table(specs), before.permissions))


def of_role(*, actor: Principal, name: str, permissions: Iterable[str], permissions_of: PermissionLookup) -> Preview:
    """Return the effect of these permissions in a role. Changes nothing. Raises Forbidden, Invalid, Conflict."""
    services.require(actor, Permission.ROLES_READ)
    services.require(actor, Permission.POLICY_EXPLAIN)
    stored = services.get_role(name)
    if name == ADMIN:
        raise Conflict("The role admin always has every permission. It cannot be changed.")
    changed = Role(pk=stored.pk, name=stored.name, permissions=sorted(effective_permissions(name, list(permissions))))
    requests = recent_requests()
    before = stored_policy(requests, permissions_of)
    after = permissions_of(_callers(requests), lambda role: changed if role.pk == changed.pk else role)
    return compare(requests, before, PolicySnapshot(before.table, after))


@dataclass(frozen=True, slots=True)
class PolicySnapshot:
    """Routes, and the permissions of the callers whose credentials are accepted."""

    table: Table
    permissions: Mapping[CallerKey, frozenset[str]]


def recent_requests() -> list[RecentRequest]:
    """Return the sample of recent requests, newest first."""
    return list(RecentRequest.objects.order_by("-at", "-pk"))


def stored_policy(requests: Iterable[RecentRequest], permissions_of: PermissionLookup) -> PolicySnapshot:
    """Return the routes as stored, and the permissions that the callers of the requests have. Raises Conflict."""
    try:
        table = services.route_table()
    except BadPattern:
        raise Conflict("A stored route cannot be read, so every request is answered 503. Correct the routes.") from None
    return PolicySnapshot(table, permissions_of(_callers(requests)))


def compare(requests: Iterable[RecentRequest], before: PolicySnapshot, after: PolicySnapshot) -> Preview:
    """Return which of the requests have another result afterwards. A caller whose credentials are not accepted is denied."""
    effects: list[Effect] = []
    tried = 0
    for request in requests:
        caller = _caller(request)
        target = _target(request)
        if target is None or not (caller in before.permissions or caller in after.permissions):
            continue
        tried += 1
        results = [
            decide_request(policy.permissions.get(caller, frozenset()), target, policy.table) for policy in (before, after)
        ]
        effect = Effect(request, *results)
        if effect.before.allowed is not effect.after.allowed:
            effects.append(effect)
    return Preview(tuple(effects), tried)


def _caller(request: RecentRequest) -> CallerKey:
    return request.caller_kind, request.caller_uid


def _callers(requests: Iterable[RecentRequest]) -> list[tuple[CallerKey, str]]:
    return [(_caller(request), request.caller) for request in requests]


def _table(specs: Sequence[RouteSpec]) -> Table:
    rules = []
    for number, spec in enumerate(specs, 1):
        services.validate_route(spec, number)
        rules.append(
            compile_rule(position=number, host=spec.host, path=spec.path, methods=spec.methods, permission=spec.permission)
        )
    return Table(rules)


def _target(request: RecentRequest) -> Target | None:
    try:
        return Target(request.method, request.host, split_path(request.path), request.path)
    except AmbiguousPath:
        return None
