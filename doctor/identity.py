"""Checks of single sign-on: what the settings expect of the auth proxy, and what it sends."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.utils import timezone

from accounts import group_names
from accounts.models import GroupRole, SignIn, User
from audit.events import Event
from audit.models import Entry
from authn.jwt_verify import OVERAGE
from doctor.finding import Check, Finding

_DAYS: Final = 7


def groups_unread(check: Check) -> Iterable[Finding]:
    """Yield the groups that give no role, because SkyAuth does not read the groups of users."""
    if reason := group_names.unread_reason():
        yield from check.of_rows(
            GroupRole.objects.all(),
            "group",
            what=f"{reason} Groups with a role",
            todo="Turn on single sign-on with groups (docs/guides/auth-proxy.md), or delete the group roles.",
        )


def groups_that_never_match(check: Check) -> Iterable[Finding]:
    """Yield the groups whose name no group can have, with the current settings."""
    names = [name for name in GroupRole.objects.values_list("group", flat=True) if group_names.never_matches(name)]
    if names:
        todo = "Delete them, and add one group role for each group."
        yield check.finding("Group roles that never match, because of their name", todo, names=names)


def groups_missing(check: Check) -> Iterable[Finding]:
    """Yield the header or the claim of the groups if users signed in through single sign-on lately, and none had groups."""
    if group_names.unread_reason():
        return
    is_jwt = settings.AUTH_USER_HEADER_FORMAT == "jwt"
    if is_jwt and settings.AUTH_JWT_GROUPS_CLAIM == "groups" and not GroupRole.objects.exists():
        return  # the default, which nobody relies on
    since = timezone.now() - timedelta(days=_DAYS)
    seen = User.objects.filter(sign_in=SignIn.SSO, last_seen_at__gt=since)
    if seen.exists() and not User.objects.filter(groups_seen_at__gt=since).exists():
        name = f"claim {settings.AUTH_JWT_GROUPS_CLAIM}" if is_jwt else f"header {settings.AUTH_GROUPS_HEADER}"
        yield check.finding(
            f"Users signed in through single sign-on in the last {_DAYS} days, and the {name} had no groups for any of them.",
            "Let the auth proxy send the groups, correct the name in the settings, or set it to an empty value.",
        )


def groups_ignored(check: Check) -> Iterable[Finding]:
    """Yield the users who signed in without their groups, because SkyAuth could not read these."""
    if names := _actors(Event.SIGN_IN_GROUPS_IGNORED):
        yield check.finding(
            f"Users who signed in without their groups in the last {_DAYS} days, because SkyAuth could not read the groups",
            "The audit log has the reason: sign-in.groups-ignored. Correct what the auth proxy or the identity provider sends.",
            names=names,
        )


def group_overage(check: Check) -> Iterable[Finding]:
    """Yield the users who were refused because their provider leaves out the groups of a user in many groups."""
    if names := _actors(Event.SIGN_IN_REFUSED, reason=OVERAGE[:512]):
        yield check.finding(
            f"Users refused in the last {_DAYS} days, because they are in more groups than the identity provider sends",
            "In Entra ID, emit only the groups assigned to the application, or send app roles: AUTH_JWT_GROUPS_CLAIM=roles.",
            names=names,
        )


def _actors(event: Event, **reason: str) -> list[str]:
    """Return the actors of the audit entries of an event in the last days."""
    entries = Entry.objects.filter(event=event, at__gt=timezone.now() - timedelta(days=_DAYS), **reason)
    return sorted(set(entries.values_list("actor", flat=True)))
