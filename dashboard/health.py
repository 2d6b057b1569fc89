"""How the installation is: what an admin should look at. `manage.py doctor` looks at more, with the operator's eyes."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone

from accounts.models import RoleSource, Token, User
from accounts.querysets import SOON_DAYS, UNUSED_DAYS
from audit.events import Event
from audit.models import Entry
from doctor import settings_checks
from rbac.models import Route
from rbac.permissions import ADMIN

_SHOWN: Final = 3  # names in one finding
DENIALS: Final = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to look at: what it is, and what to do about it; of rows, some by name, how many there are besides, and where."""

    what: str
    todo: str
    names: tuple[str, ...] = ()
    others: int = 0
    where: str = ""
    grave: bool = False


def findings() -> list[Finding]:
    """Return what is to be looked at, the grave first. Its queries are as many however much there is."""
    return sorted([*_settings(), *_policy(), *_people(), *_tokens()], key=lambda finding: not finding.grave)


def denials() -> list[Entry]:
    """Return the last requests that were denied."""
    return list(Entry.objects.filter(event=Event.REQUEST_DENIED)[:DENIALS])


def _settings() -> Iterator[Finding]:
    for message in settings_checks.deployed():
        yield Finding(message.msg, message.hint or "", grave=message.id in {"skyauth.W101", "skyauth.W103"})


def _policy() -> Iterator[Finding]:
    if not Route.objects.exists():
        where = reverse("dashboard:packs")
        yield Finding("There are no routes, so every request is refused.", "Load a pack of routes.", where=where, grave=True)


def _people() -> Iterator[Finding]:
    admins = User.objects.filter(is_active=True, role__name=ADMIN).order_by("username")
    where = f"{reverse('dashboard:users')}?role={ADMIN}&sort=seen"
    by_default = admins.filter(role_source=RoleSource.DEFAULT)
    yield from _some(by_default, "username", "Admin because nobody gave them a role", "Give them a role.", where)
    since = timezone.now() - timedelta(days=UNUSED_DAYS)
    yield from _some(
        admins.filter(created_at__lte=since).exclude(last_seen_at__gt=since),
        "username",
        f"Admins who were not here for {UNUSED_DAYS} days",
        "Disable who has left, or give them a smaller role.",
        where,
    )


def _tokens() -> Iterator[Finding]:
    tokens = Token.objects.order_by("account__name", "pk")
    endless = tokens.active().filter(expires_at=None)
    soon, unused = tokens.expiring_within(SOON_DAYS), tokens.unused_for(UNUSED_DAYS)
    where = f"{reverse('dashboard:service-accounts')}?tokens="
    for rows, what, todo, which in (
        (soon, f"Tokens that expire within {SOON_DAYS} days", "Rotate them in time.", "soon"),
        (endless, "Tokens that never expire", "Rotate them, with an end.", "never"),
        (unused, f"Tokens that nobody used for {UNUSED_DAYS} days", "Revoke them.", "unused"),
    ):
        yield from _some(rows, "account__name", what, todo, where + which)


def _some(rows: QuerySet[Any], name: str, what: str, todo: str, where: str = "") -> Iterator[Finding]:
    """Yield what there is to say of these rows, if there are any."""
    if number := rows.count():
        names = tuple(dict.fromkeys(rows.values_list(name, flat=True)[:_SHOWN]))
        yield Finding(what, todo, names, max(number - _SHOWN, 0), where)
