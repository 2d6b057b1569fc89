"""Which tokens are active and which sessions are live: the one home of each rule, as queryset methods for lists and counts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

if TYPE_CHECKING:
    from accounts.models import Session, Token  # noqa: F401 - the parameters of the query sets

SOON_DAYS: Final = 7
UNUSED_DAYS: Final = 90


class TokenQuerySet(QuerySet["Token"]):
    """Tokens by their own state, and by whether the verify endpoint accepts them."""

    def in_state(self, state: str) -> TokenQuerySet:
        """Return the tokens whose own `Token.state` is "active", "expired" or "revoked", whatever becomes of their account."""
        now = timezone.now()
        match state:
            case "revoked":
                return self.filter(revoked_at__isnull=False)
            case "expired":
                return self.filter(revoked_at=None, expires_at__lte=now)
            case _:
                return self.filter(_in_active_state(now))

    def active(self) -> TokenQuerySet:
        """Return the tokens that `authn.identify` accepts now: by their state, their account, its owner and the settings."""
        return self.filter(active_token())

    def expiring_within(self, days: int) -> TokenQuerySet:
        """Return the active tokens that expire within so many days."""
        return self.active().filter(expires_at__lte=timezone.now() + timedelta(days=days))

    def unused_for(self, days: int) -> TokenQuerySet:
        """Return the active tokens that were last used, or never used and created, at least so many days ago."""
        since = timezone.now() - timedelta(days=days)
        return self.active().filter(Q(last_used_at__lte=since) | Q(last_used_at=None, created_at__lte=since))


def active_token(prefix: str = "") -> Q:
    """Return the condition of `TokenQuerySet.active`, for a query in which `prefix` leads to the tokens, such as "tokens__"."""
    if not settings.ENABLE_SERVICE_ACCOUNTS:
        return Q(**{f"{prefix}pk__in": ()})
    account = f"{prefix}account__"
    owner_active = Q(**{f"{account}owner": None}) | Q(**{f"{account}owner__is_active": True})
    return _in_active_state(timezone.now(), prefix) & Q(**{f"{account}is_active": True}) & owner_active


def _in_active_state(now: datetime, prefix: str = "") -> Q:
    unexpired = Q(**{f"{prefix}expires_at": None}) | Q(**{f"{prefix}expires_at__gt": now})
    return Q(**{f"{prefix}revoked_at": None}) & unexpired


def session_limits(kind: str) -> tuple[timedelta, timedelta | None]:
    """Return how long a session of this kind lasts after its start, and after its last use (None: no limit)."""
    from accounts.models import SessionKind

    if kind == SessionKind.CLI:
        return timedelta(days=settings.CLI_SESSION_DAYS), None
    return timedelta(seconds=settings.SESSION_COOKIE_AGE), timedelta(hours=settings.SESSION_IDLE_HOURS)


def session_expires_at(*, kind: str, created_at: datetime, last_used_at: datetime, expire_date: datetime) -> datetime:
    """Return when a session expires unless it is used again: by its age, by its idle time or by its stored date."""
    age, idle = session_limits(kind)
    end = min(expire_date, created_at + age)
    return end if idle is None else min(end, last_used_at + idle)


class SessionQuerySet(QuerySet["Session"]):
    """Sessions, as users see them listed and as the verify endpoint accepts them."""

    def live(self) -> SessionQuerySet:
        """Return the sessions of active users whose `Session.expires_at` is in the future."""
        from accounts.models import SessionKind

        now = timezone.now()
        within = Q()
        for kind in SessionKind:
            age, idle = session_limits(kind)
            limits = Q(kind=kind, created_at__gt=now - age)
            within |= limits if idle is None else limits & Q(last_used_at__gt=now - idle)
        return self.filter(within, user__is_active=True, expire_date__gt=now)
