"""Checks of what is stored: routes, admins, service accounts and tokens."""

import operator
from collections.abc import Iterable
from datetime import timedelta
from functools import reduce

from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.models import RoleSource, ServiceAccount, Token, User
from accounts.querysets import SOON_DAYS, UNUSED_DAYS, TokenQuerySet
from doctor.finding import Check, Finding
from rbac.models import Role, Route
from rbac.permissions import ADMIN
from rbac.shadows import shadowed


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
    if not _admins().exists():
        yield check.finding("There is no active admin.", "Run: manage.py create_user NAME --role admin")


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
        todo="Lower their role: manage.py set_role NAME ROLE. Or disable them in the dashboard.",
    )


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
