"""Checks of what is stored: routes, admins, service accounts and tokens."""

import ipaddress
import operator
from collections.abc import Iterable
from datetime import timedelta
from functools import reduce

from axes.models import AccessAttempt
from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.models import RoleSource, ServiceAccount, Session, Token, User
from accounts.querysets import SOON_DAYS, UNUSED_DAYS, TokenQuerySet
from accounts.services.role_defaults import first_admin_is_open
from doctor.finding import Check, Finding
from rbac.models import Role, Route
from rbac.permissions import ADMIN, FIRST_ADMIN
from rbac.shadows import shadowed

_RECENT_DAYS = 7
_FEWEST_CALLERS = 5  # fewer can well be in one place


def no_routes(check: Check) -> Iterable[Finding]:
    if not Route.objects.exists():
        yield check.finding("There are no routes, so every request is denied.", "Run: manage.py load_pack --list")


def dead_routes(check: Check) -> Iterable[Finding]:
    rows = list(Route.objects.all())
    found = shadowed(rows)
    if names := [str(row) for row in rows if row.pk in found]:
        yield check.finding(
            "Routes that never decide a request, because earlier ones match all of it",
            "Move them up in the dashboard, or delete them.",
            names=names,
        )


def no_admin(check: Check) -> Iterable[Finding]:
    if _admins().exists():
        return
    todo = "Run: manage.py create_user NAME --role admin. For an existing user: manage.py set_role NAME admin."
    if settings.RBAC_DEFAULT_ROLE == FIRST_ADMIN and not first_admin_is_open():
        yield check.finding("There is no active admin, and no first sign-in creates one: first-admin works once.", todo)
    else:
        yield check.finding("There is no active admin.", todo)


def admins_by_default(check: Check) -> Iterable[Finding]:
    return check.of_rows(
        _admins().filter(role_source=RoleSource.DEFAULT),
        "username",
        what="Users who are admins only because no role was assigned to them",
        todo="Assign their roles: manage.py set_role NAME ROLE",
    )


def unused_admins(check: Check) -> Iterable[Finding]:
    since = timezone.now() - timedelta(days=UNUSED_DAYS)
    return check.of_rows(
        _admins().filter(created_at__lte=since).exclude(last_seen_at__gt=since),
        "username",
        what=f"Admins who have not used SkyAuth for {UNUSED_DAYS} days",
        todo="Lower their role: manage.py set_role NAME ROLE. Or disable them: manage.py disable_user NAME",
    )


def one_address(check: Check) -> Iterable[Finding]:
    """Yield a finding if several callers of the last days have one address, which is internal: mostly that of a load balancer."""
    since = timezone.now() - timedelta(days=_RECENT_DAYS)
    seen = {
        *AccessAttempt.objects.filter(attempt_time__gte=since).values_list("username", "ip_address"),
        *Session.objects.filter(user__isnull=False, last_used_at__gte=since).values_list("user__username", "address"),
        *Token.objects.filter(last_used_at__gte=since).values_list("account__name", "last_used_from"),
    }
    callers, addresses = {name for name, _ in seen}, {address for _, address in seen}
    if len(callers) >= _FEWEST_CALLERS and len(addresses) == 1 and is_internal(address := str(addresses.pop())):
        yield check.finding(
            f"All {len(callers)} callers of the last {_RECENT_DAYS} days have the address {address}.",
            "If it is a load balancer's or a proxy's: add it to TRUSTED_PROXIES, and make it and all proxies behind it send the "
            "client's address in X-Forwarded-For. Otherwise one caller's wrong passwords lock out all others.",
        )


def is_internal(address: str) -> bool:
    """Return whether no client on the internet can have this address."""
    try:
        return ipaddress.ip_address(address).is_private
    except ValueError:
        return False


def disabled_owners(check: Check) -> Iterable[Finding]:
    return check.of_rows(
        ServiceAccount.objects.filter(is_active=True, owner__is_active=False),
        "name",
        what="Service accounts that cannot authenticate because their owner is disabled",
        todo="Give them another owner or none, or delete them.",
    )


def roles_above_owner(check: Check) -> Iterable[Finding]:
    """Yield the service accounts whose role holds a permission that their owner's role does not."""
    owned = ServiceAccount.objects.filter(is_active=True).exclude(owner=None)
    held = {role.pk: role.holds for role in Role.objects.all()}
    pairs = owned.order_by().values_list("role_id", "owner__role_id").distinct()
    above = [Q(role=role, owner__role=owners) for role, owners in pairs if not held[role] <= held[owners]]
    if above:
        yield from check.of_rows(
            owned.filter(reduce(operator.or_, above)),
            "name",
            what="Service accounts with fewer permissions than their role, because their owner's role has fewer",
            todo="Give them the role that they need, another owner, or none.",
        )


def endless_tokens(check: Check) -> Iterable[Finding]:
    return _of_tokens(
        check,
        Token.objects.active().filter(expires_at=None),
        what="Tokens that never expire",
        todo="Replace them by tokens that expire: manage.py rotate_token KEY_ID --days 90",
    )


def expiring_tokens(check: Check) -> Iterable[Finding]:
    return _of_tokens(
        check,
        Token.objects.expiring_within(SOON_DAYS),
        what=f"Tokens that expire within {SOON_DAYS} days",
        todo="Rotate them in time: manage.py rotate_token KEY_ID --grace 3600",
    )


def unused_tokens(check: Check) -> Iterable[Finding]:
    return _of_tokens(
        check,
        Token.objects.unused_for(UNUSED_DAYS),
        what=f"Tokens that have not been used for {UNUSED_DAYS} days",
        todo="Revoke those that nobody needs: manage.py revoke_token KEY_ID",
    )


def _admins() -> QuerySet[User]:
    return User.objects.filter(is_active=True, role__name=ADMIN).order_by("username")


def _of_tokens(check: Check, tokens: TokenQuerySet, *, what: str, todo: str) -> Iterable[Finding]:
    return check.of_rows(tokens.order_by("account__name", "pk"), "account__name", "key_id", what=what, todo=todo)
