"""Checks of single sign-on: what the settings expect of the auth proxy, and what it sends."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db.models import Max, Q
from django.utils import timezone

from accounts import group_names
from accounts.identifiers import BadName, canonical_identity
from accounts.models import GroupRole, SignIn, User
from audit.events import Event
from audit.models import Entry
from authn import provider_keys
from authn.identify import NAME_REFUSED
from authn.jwt_verify import EXPIRED, OVERAGE
from authn.provider_keys import KeysUnavailable
from doctor.finding import Check, Finding
from doctor.settings_checks import assertions
from rbac.principals import UNKNOWN, Method

_DAYS: Final = 7
# The beginnings of the reasons that are faults of what the auth proxy sends, and not decisions about the user.
_UNUSABLE: Final = (
    (Q(reason__startswith="assertion: ") & ~Q(reason=EXPIRED))
    | Q(reason__startswith=NAME_REFUSED)
    | Q(reason__startswith="the identity header ")
)


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
    if names := _actors(Event.SIGN_IN_GROUPS_IGNORED, "groups_seen_at"):
        yield check.finding(
            f"Users who signed in without their groups in the last {_DAYS} days, because SkyAuth could not read the groups",
            "The audit log has the reason: sign-in.groups-ignored. Correct what the auth proxy or the identity provider sends.",
            names=names,
        )


def group_overage(check: Check) -> Iterable[Finding]:
    """Yield the users who were refused because their provider leaves out the groups of a user in many groups."""
    if names := _actors(Event.SIGN_IN_REFUSED, "last_seen_at", reason=OVERAGE[:512]):
        yield check.finding(
            f"Users refused in the last {_DAYS} days, because they are in more groups than the identity provider sends",
            "In Entra ID, emit only the groups assigned to the application, or send app roles: AUTH_JWT_GROUPS_CLAIM=roles.",
            names=names,
        )


def users_refused(check: Check) -> Iterable[Finding]:
    """Yield the reasons for which SkyAuth cannot use what the auth proxy sends, until it can."""
    if settings.AUTH_USER_HEADER_FORMAT == "off":
        return
    since = timezone.now() - timedelta(days=_DAYS)
    refused = Entry.objects.filter(_UNUSABLE, event=Event.SIGN_IN_REFUSED, method=Method.PROXY, at__gt=since).order_by()
    last = User.objects.exclude(sign_in=SignIn.PASSWORD).aggregate(Max("last_seen_at"))["last_seen_at__max"]
    by_reason: dict[str, list[str]] = {}
    for actor, reason, at in refused.values_list("actor", "reason").annotate(Max("at")):
        # A name is refused as long as it is not accepted. Other faults are those of all users: who signs in later ends them.
        if _is_refused(actor) if reason.startswith(NAME_REFUSED) else last is None or last < at:
            by_reason.setdefault(reason, []).append("users without a name" if actor == UNKNOWN else actor)
    for reason, actors in sorted(by_reason.items()):
        yield check.finding(
            f"Users refused in the last {_DAYS} days, because of what the auth proxy sends ({reason.rstrip('.')})",
            "Correct the settings, or what the auth proxy sends (docs/guides/auth-proxy.md).",
            names=sorted(actors),
        )


def _is_refused(name: str) -> bool:
    """Return whether an auth proxy that sends this name is refused with the settings of today."""
    try:
        canonical_identity(name, settings.AUTH_USER_PREFIX)
    except BadName:
        return True
    return False


def provider_keys_unusable(check: Check) -> Iterable[Finding]:
    """Yield what is wrong with the key set of signed assertions. Reads it from its file or URL."""
    if settings.AUTH_USER_HEADER_FORMAT != "jwt" or assertions():
        return  # E005 to E008
    try:
        content = provider_keys.read(settings.AUTH_JWT_JWKS)
    except KeysUnavailable as error:
        yield check.finding(str(error), "Correct AUTH_JWT_JWKS or the key set. Users of single sign-on get 503 until then.")
        return
    if content.unsafe:
        todo = "SkyAuth does not use them. Replace them at the identity provider."
        yield check.finding("Keys of AUTH_JWT_JWKS that are not safe", todo, names=content.unsafe)
    algorithms = frozenset[str]().union(*(key.algorithms for key in content.keys))
    if algorithms.isdisjoint(settings.AUTH_JWT_ALGORITHMS):
        yield check.finding(
            "No key of AUTH_JWT_JWKS is for an algorithm in AUTH_JWT_ALGORITHMS, so every assertion is refused.",
            f"Set AUTH_JWT_ALGORITHMS to what the identity provider uses, of: {', '.join(sorted(algorithms))}.",
        )


def _actors(event: Event, since: str, **reason: str) -> list[str]:
    """Return the actors of the audit entries of an event in the last days.

    `since` is a timestamp of users. Who has a later one than the entry is no longer affected.
    """
    entries = Entry.objects.filter(event=event, at__gt=timezone.now() - timedelta(days=_DAYS), **reason)
    last = dict(entries.order_by().values_list("actor").annotate(Max("at")))
    later = dict(User.objects.filter(username__in=last).exclude(**{since: None}).values_list("username", since))
    return sorted(actor for actor, at in last.items() if actor not in later or later[actor] <= at)
