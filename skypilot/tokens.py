"""`/users/service-account-tokens`: to SkyPilot a service account is its one token; here it may hold several, each a row.

`token_id` is the token's key id. That of a token which was rotated goes on to mean its successor.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts.identifiers import BadName, canonical_account_name
from accounts.models import ServiceAccount, Token, User
from accounts.services import service_accounts, tokens
from accounts.services.tokens import IssuedToken
from integrations.skypilot.roles import ROLES, skypilot_role
from rbac.permissions import Permission, cap_to_owner
from rbac.principals import Principal
from skypilot.errors import Refused
from skypilot.operations import ANYBODY, Call, Operation
from skypilot.validation import OPTIONAL, OPTIONAL_NUMBER, REQUIRED

_WRITE: Final = (Permission.SERVICE_ACCOUNTS_OWN, Permission.SERVICE_ACCOUNTS_WRITE)
_SAVE_IT: Final = "Please save this token - it will not be shown again!"
_SAVE_NEW: Final = "Token rotated successfully! Please save this new token - it will not be shown again!"
_BAD_NAME: Final = "Token name must contain only letters, numbers, and underscores. Please use a different name."
_BAD_DAYS: Final = "Expiration days must be positive or 0 for never expire"


def listed(call: Call) -> list[dict[str, Any]]:
    """Return the tokens that the caller may know of and that were not revoked, newest first."""
    now = timezone.now()
    return [
        {
            "token_id": token.key_id,
            "token_name": token.name or token.account.name,
            "created_at": _seconds(token.created_at),
            "last_used_at": _seconds(token.last_used_at),
            "expires_at": _seconds(token.expires_at),
            "creator_user_hash": token.account.owner.uid if token.account.owner else "",
            "service_account_user_id": token.account.uid,
            "creator_name": token.account.owner.username if token.account.owner else token.account.created_by,
            "service_account_name": token.account.name,
            "service_account_roles": [_role(token.account)],
        }
        for token in _live(tokens.visible_tokens(call.actor)).order_by("-created_at", "-pk")
        if token.replaced_by_id is None or token.state(now) == "active"  # a rotated one is there while it still works
    ]


@transaction.atomic
def create(call: Call) -> dict[str, Any]:
    """Create a service account and its token, and return the token, this once."""
    name, role = call.given["token_name"].strip(), call.given.get("role")
    _require_name(name)
    days = _days(call)
    if role is not None:
        _require_grantable(call.actor, role)
    if _taken(name):
        raise Refused(400, f"Service account with name {name!r} already exists. Please use a different name.")
    account = service_accounts.create_service_account(actor=call.actor, name=name, role=role)
    if "expires_in_days" in call.given and days is None:
        days = 0  # null is never, as 0; what is not said at all is TOKEN_DEFAULT_DAYS
    issued = tokens.issue_token(actor=call.actor, account=account, days=days, name=account.name)
    return {**_shown(issued), "creator_user_id": account.owner.uid if account.owner else call.actor.uid, "message": _SAVE_IT}


def delete(call: Call) -> dict[str, str]:
    """End a token at once, and its account with it when it was the last one."""
    token = _managed(call, "You can only delete your own tokens. Only admins can delete tokens owned by other users.")
    tokens.retire_token(actor=call.actor, token=token)
    return {"message": "Token deleted successfully"}


def role_of(call: Call) -> dict[str, Any]:
    """Return the role of a token's account."""
    token = _managed(
        call,
        "You can only view roles for your own service accounts. "
        "Only admins can view roles for service accounts owned by other users.",
    )
    return {
        "token_id": call.given["token_id"],
        "service_account_user_id": token.account.uid,
        "roles": [_role(token.account)],
    }


def update_role(call: Call) -> dict[str, Any]:
    """Give a token's account another role: at most the caller's, and at most its owner's."""
    token = _managed(
        call,
        "You can only update roles for your own service accounts. "
        "Only admins can update roles for service accounts owned by other users.",
    )
    role = call.given["role"]
    _require_grantable(call.actor, role)
    service_accounts.update_service_account(actor=call.actor, account=token.account, role=role)
    return {
        "message": f"Service account role updated to {role}",
        "token_id": call.given["token_id"],
        "service_account_user_id": token.account.uid,
        "new_role": role,
    }


def rotate(call: Call) -> dict[str, Any]:
    """Replace a token by a new one and return that, this once; the old one dies at once."""
    token = _managed(call, "You can only rotate your own tokens. Only admins can rotate tokens owned by other users.")
    days = _days(call)
    issued = tokens.rotate_token(actor=call.actor, token=token, days=_remaining(token) if days is None else days)
    return {**_shown(issued), "message": _SAVE_NEW}


def _live(tokens: QuerySet[Token]) -> QuerySet[Token]:
    return tokens.filter(revoked_at=None).select_related("account__role", "account__owner__role")


def _managed(call: Call, refusal: str) -> Token:
    """Return the token that is meant. Raises Refused: 404 when there is none, 403 with `refusal` when it is not the caller's."""
    found = Token.objects.select_related("replaced_by").filter(key_id=call.given["token_id"]).first()
    while found is not None and found.revoked_at is not None:
        found = found.replaced_by
    token = _live(Token.objects.filter(pk=found.pk)).first() if found is not None else None
    if token is None:
        raise Refused(404, "Token not found")
    owned = call.actor.owner is not None and token.account.owner_id == call.actor.owner
    if not owned and not call.actor.holds(Permission.SERVICE_ACCOUNTS_WRITE):
        raise Refused(403, refusal)
    return token


def _require_name(name: str) -> None:
    try:
        canonical_account_name(name)
    except BadName:
        raise Refused(400, _BAD_NAME) from None


def _taken(name: str) -> bool:
    wanted = name.lower()
    return ServiceAccount.objects.filter(name=wanted).exists() or User.objects.filter(username=wanted).exists()


def _require_grantable(actor: Principal, role: str) -> None:
    """Raise Refused for a role that SkyPilot does not have, or that the caller may not give."""
    if role not in ROLES:
        raise Refused(400, f"Invalid role {role!r}. Supported roles: {', '.join(ROLES)}.")
    if role == "admin" and skypilot_role(actor.permissions) != "admin":
        raise Refused(403, "Only admins can grant the admin role.")


def _days(call: Call) -> int | None:
    """Return the days that are asked for; None for null and for nothing."""
    days: int | None = call.given.get("expires_in_days")
    if days is not None and days < 0:
        raise Refused(400, _BAD_DAYS)
    return days


def _remaining(token: Token) -> int:
    """Return how many days a token's successor lives when nobody says it: as many as were left, at least one.

    Never stays never. One that has expired gets as many as a new one.
    """
    if token.expires_at is None:
        return 0
    left = token.expires_at - timezone.now()
    longest = settings.TOKEN_MAX_DAYS or tokens.MAX_DAYS
    return min(max(1, left.days) if left > timedelta() else settings.TOKEN_DEFAULT_DAYS, longest)


def _shown(issued: IssuedToken) -> dict[str, Any]:
    token = issued.token
    return {
        "token_id": token.key_id,
        "token_name": token.name or token.account.name,
        "token": issued.plaintext,
        "expires_at": _seconds(token.expires_at),
        "service_account_user_id": token.account.uid,
    }


def _role(account: ServiceAccount) -> str:
    """Return which of SkyPilot's roles an account has: its own within its owner's."""
    held = account.role.holds
    if account.owner is not None:
        _, held = cap_to_owner(account.role.name, held, account.owner.role.name, account.owner.role.holds)
    return skypilot_role(held)


def _seconds(when: datetime | None) -> int | None:
    return None if when is None else int(when.timestamp())


_BASE: Final = "users/service-account-tokens"
_ID: Final = {"token_id": REQUIRED}
OPERATIONS: Final = (
    Operation("GET", _BASE, ANYBODY, listed),
    Operation("POST", _BASE, _WRITE, create, {"token_name": REQUIRED, "expires_in_days": OPTIONAL_NUMBER, "role": OPTIONAL}),
    Operation("POST", f"{_BASE}/delete", _WRITE, delete, _ID),
    Operation("POST", f"{_BASE}/get-role", _WRITE, role_of, _ID),
    Operation("POST", f"{_BASE}/update-role", _WRITE, update_role, {**_ID, "role": REQUIRED}),
    Operation("POST", f"{_BASE}/rotate", _WRITE, rotate, {**_ID, "expires_in_days": OPTIONAL_NUMBER}),
)
