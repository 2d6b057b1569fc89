"""Which tokens want attention, for `list_tokens` and `doctor`."""

from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from accounts.models import Token


def in_state(state: str, now: datetime) -> Q:
    """Return the condition that is `Token.state` in the database."""
    expired = Q(expires_at__lte=now)
    return {"revoked": Q(revoked_at__isnull=False), "expired": Q(revoked_at=None) & expired}.get(
        state, Q(revoked_at=None) & ~expired
    )


def active(tokens: QuerySet[Token], now: datetime) -> QuerySet[Token]:
    """Return the tokens that work, as far as they themselves are concerned."""
    return tokens.filter(in_state("active", now))


def expiring_within(tokens: QuerySet[Token], days: int, now: datetime) -> QuerySet[Token]:
    """Return the active tokens that expire within so many days."""
    return active(tokens, now).filter(expires_at__lte=now + timedelta(days=days))


def unused_for(tokens: QuerySet[Token], days: int, now: datetime) -> QuerySet[Token]:
    """Return the active tokens that nobody used for so many days; one that is younger than that had no chance."""
    since = now - timedelta(days=days)
    return active(tokens, now).filter(Q(last_used_at__lte=since) | Q(last_used_at=None, created_at__lte=since))
