"""Which tokens work, and which want attention: the same for commands, pages and services."""

from datetime import datetime, timedelta
from typing import Final

from django.db.models import Q, QuerySet

from accounts.models import Token

SOON_DAYS: Final = 7
UNUSED_DAYS: Final = 90


def in_state(state: str, now: datetime, prefix: str = "") -> Q:
    """Return the condition that is `Token.state` in the database; of rows that have tokens, `prefix` leads to these."""
    kept = Q(**{f"{prefix}revoked_at": None})
    match state:
        case "revoked":
            return Q(**{f"{prefix}revoked_at__isnull": False})
        case "expired":
            return kept & Q(**{f"{prefix}expires_at__lte": now})
        case _:
            return kept & (Q(**{f"{prefix}expires_at": None}) | Q(**{f"{prefix}expires_at__gt": now}))


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
