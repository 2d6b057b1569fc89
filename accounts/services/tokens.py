"""Services for tokens of service accounts: issue, rotate, revoke."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts import token_format
from accounts.models import ServiceAccount, Token
from accounts.querysets import TokenQuerySet
from accounts.services.account_batch import AccountBatch
from accounts.services.prepared import Dependencies, prepare_first
from accounts.services.service_accounts import delete_service_account, locked, visible
from audit.events import Event
from audit.record import record
from core.agreement import asks_first
from core.bulk import batches
from core.errors import Conflict, Invalid, NotFound
from rbac.principals import Principal
from rbac.services import require_all
from rbac.validation import validate

MAX_DAYS: Final = 36_500
MAX_GRACE_SECONDS: Final = 30 * 86_400


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new token: its row, and the plaintext, which is shown once."""

    token: Token
    plaintext: str = field(repr=False)


def visible_tokens(actor: Principal) -> TokenQuerySet:
    """Return the tokens of the accounts that the actor can see."""
    return Token.objects.filter(account__in=visible(actor)).select_related("account", "replaced_by")


def get_token(actor: Principal, key_id: str) -> Token:
    """Return the token with this key id, if the actor can see it. Raises NotFound."""
    token = visible_tokens(actor).filter(key_id=key_id).first()
    if token is None:
        raise NotFound(f"There is no token with the key id {key_id!r}.")
    return token


def expiry(days: int | None, now: datetime) -> datetime | None:
    """Return when a token that is issued `now` expires. Days None: TOKEN_DEFAULT_DAYS; 0: never. Raises Invalid."""
    longest = settings.TOKEN_MAX_DAYS
    if days is None:
        days = min(settings.TOKEN_DEFAULT_DAYS, longest or settings.TOKEN_DEFAULT_DAYS)
    if days < 0 or days > MAX_DAYS:
        raise Invalid.field("days", f"Days are a whole number from 1 to {MAX_DAYS}, or 0 for a token that never expires.")
    if longest and (days == 0 or days > longest):
        raise Invalid.field("days", f"Tokens are valid for at most {longest} days (TOKEN_MAX_DAYS).")
    return now + timedelta(days=days) if days else None


def _make(actor: Principal, account: ServiceAccount, name: str, expires_at: datetime | None, now: datetime) -> IssuedToken:
    minted = token_format.mint()
    token = Token(
        account=account,
        key_id=minted.key_id,
        digest=minted.digest,
        name=name,
        created_by=actor.name,
        created_at=now,
        expires_at=expires_at,
    )
    validate(token)
    token.save()
    return IssuedToken(token, minted.plaintext)


@transaction.atomic
def issue_token(*, actor: Principal, account: ServiceAccount, days: int | None = None, name: str = "") -> IssuedToken:
    """Issue a token for an account, valid for TOKEN_DEFAULT_DAYS by default. Raises Forbidden, Invalid, Conflict, NotFound."""
    account = locked(actor, account)
    _require_issuable(actor, account)
    now = timezone.now()
    issued = _make(actor, account, name, expiry(days, now), now)
    data = {"key_id": issued.token.key_id, "expires_at": _iso(issued.token.expires_at), "name": name}
    record(Event.TOKEN_ISSUED, actor=actor, target=account.name, data=data)
    return issued


def _require_issuable(actor: Principal, account: ServiceAccount) -> None:
    """Raise Forbidden or Conflict unless the actor can issue a token with the permissions of this account."""
    if not settings.ENABLE_SERVICE_ACCOUNTS:
        raise Conflict("Service accounts are disabled (ENABLE_SERVICE_ACCOUNTS=false).")
    require_all(actor, account.role.holds, f"issue a token for {account.name}")


@transaction.atomic
def rotate_token(*, actor: Principal, token: Token, days: int | None = None, grace: int = 0) -> IssuedToken:
    """Issue a successor with the same name and return it. The old token is revoked, or expires after `grace` seconds.

    With `days` None the successor is valid for as long as the old token was. A token can be rotated once.
    Raises Forbidden, Invalid, Conflict, NotFound.
    """
    account = locked(actor, token.account)
    _require_issuable(actor, account)
    if not 0 <= grace <= MAX_GRACE_SECONDS:
        raise Invalid.field("grace", f"The grace period is a whole number of seconds from 0 to {MAX_GRACE_SECONDS} (30 days).")
    token = get_token(actor, token.key_id)
    now = timezone.now()
    if token.revoked_at is not None or token.replaced_by_id is not None:
        raise Conflict("This token is already revoked or rotated. Rotate its successor, or issue a new token.")
    issued = _make(actor, account, token.name, _renewed(token, days, now), now)
    token.replaced_by = issued.token
    if grace:
        end = now + timedelta(seconds=grace)
        token.expires_at = end if token.expires_at is None else min(token.expires_at, end)
    else:
        token.revoked_at = now
    token.save(update_fields=["replaced_by", "expires_at", "revoked_at"])
    data = {
        "old": token.key_id,
        "new": issued.token.key_id,
        "grace": grace,
        "expires_at": _iso(issued.token.expires_at),
        **({"old_expires_at": _iso(token.expires_at)} if grace else {}),
    }
    record(Event.TOKEN_ROTATED, actor=actor, target=account.name, data=data)
    return issued


def _renewed(token: Token, days: int | None, now: datetime) -> datetime | None:
    """Return when the successor expires: after `days`, or after the lifetime of the old token, at most TOKEN_MAX_DAYS."""
    if days is not None:
        return expiry(days, now)
    if token.expires_at is None:
        return expiry(0, now)
    lifetime = token.expires_at - token.created_at
    return now + min(lifetime, timedelta(days=settings.TOKEN_MAX_DAYS) if settings.TOKEN_MAX_DAYS else lifetime)


@transaction.atomic
def revoke_token(*, actor: Principal, token: Token) -> Token:
    """Revoke a token and return it; a revoked token keeps its date. Raises Forbidden, NotFound."""
    account = locked(actor, token.account)
    token = get_token(actor, token.key_id)
    if token.revoked_at is None:
        token.revoked_at = timezone.now()
        token.save(update_fields=["revoked_at"])
        record(Event.TOKEN_REVOKED, actor=actor, target=account.name, data={"key_id": token.key_id})
    return token


def revoke_tokens(*, actor: Principal, tokens: Collection[Token]) -> list[Token]:
    """Revoke many tokens, all or none, and return them as stored now, in the same order. Raises Forbidden, NotFound."""

    def prepare() -> tuple[tuple[list[Token], AccountBatch], Dependencies]:
        keys = [token.pk for token in tokens]
        stored = {token.pk: token for part in batches(keys) for token in _with_owners(actor).filter(pk__in=part)}
        if missing := next((token for token in tokens if token.pk not in stored), None):
            raise NotFound(f"There is no token with the key id {missing.key_id!r}.")
        rows = [stored[key] for key in keys]
        batch = AccountBatch(actor)
        batch.revoke_tokens(rows)
        return (rows, batch.prepare()), batch.dependencies

    def write(prepared: tuple[list[Token], AccountBatch]) -> list[Token]:
        rows, batch = prepared
        batch.write()
        return rows

    return prepare_first(prepare, write)


def _with_owners(actor: Principal) -> TokenQuerySet:
    return visible_tokens(actor).select_related("account__role", "account__owner__role")


@asks_first
@transaction.atomic
def retire_token(*, actor: Principal, token: Token) -> None:
    """Revoke a token, or delete its account if no other token of it is left.

    Raises Forbidden, NotFound, and Conflict for a revoked or rotated token.
    """
    account = locked(actor, token.account)
    if get_token(actor, token.key_id).revoked_at is not None:
        raise Conflict("This token is already revoked or rotated.")
    if account.tokens.filter(revoked_at=None).exclude(pk=token.pk).exists():
        revoke_token(actor=actor, token=token)
    else:
        delete_service_account(actor=actor, account=account)


def _iso(when: datetime | None) -> str | None:
    return when.isoformat() if when else None
