"""`/users/service-account-tokens`. In SkyPilot a service account has one token; here it can have several, each a row.

`token_id` is the key id of the token. The key id of a rotated token stands for its successor.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts.identifiers import BadName, canonical_account_name
from accounts.models import ServiceAccount, Token, User, token_state
from accounts.services import service_accounts, tokens
from accounts.services.tokens import IssuedToken
from integrations.skypilot.roles import ROLES, skypilot_role
from rbac.models import Role
from rbac.permissions import Permission, cap_to_owner
from rbac.principals import Principal
from skypilot.account_ids import account_id
from skypilot.errors import HTTPException
from skypilot.operations import AUTHENTICATED, Call, Operation
from skypilot.validation import OPTIONAL, OPTIONAL_INTEGER, REQUIRED

_WRITE: Final = (Permission.SERVICE_ACCOUNTS_OWN, Permission.SERVICE_ACCOUNTS_WRITE)
_LISTED: Final = (
    "key_id", "name", "created_at", "last_used_at", "expires_at", "replaced_by",
    "account__name", "account__uid", "account__created_by", "account__role",
    "account__owner__username", "account__owner__uid", "account__owner__role",
)  # fmt: skip
_SAVE_IT: Final = "Please save this token - it will not be shown again!"
_SAVE_NEW: Final = "Token rotated successfully! Please save this new token - it will not be shown again!"
_BAD_NAME: Final = "Token name must contain only letters, numbers, and underscores. Please use a different name."
_BAD_DAYS: Final = "Expiration days must be positive or 0 for never expire"


def list_tokens(call: Call) -> list[dict[str, Any]]:
    """Return the tokens that the caller is allowed to see and that are not revoked, newest first.

    SkyPilot's list has no pages: hence no rows as objects, which take five times as long.
    """
    now, roles = timezone.now(), {role.pk: role for role in Role.objects.all()}
    rows = tokens.visible_tokens(call.actor).filter(revoked_at=None).order_by("-created_at", "-pk").values_list(*_LISTED)
    return [
        {
            "token_id": key_id,
            "token_name": name or account,
            "created_at": _seconds(created_at),
            "last_used_at": _seconds(last_used_at),
            "expires_at": _seconds(expires_at),
            "creator_user_hash": owner_uid or "",
            "service_account_user_id": account_id(account, account_uid),
            "creator_name": owner or created_by,
            "service_account_name": account,
            "service_account_roles": [_role(roles[role], roles[owner_role] if owner_role else None)],
        }
        for (
            key_id, name, created_at, last_used_at, expires_at, replaced_by,
            account, account_uid, created_by, role, owner, owner_uid, owner_role,
        ) in rows.iterator(chunk_size=2_000)
        if replaced_by is None or token_state(expires_at, None, now) == "active"  # a rotated token, while it is still valid
    ]  # fmt: skip


@transaction.atomic
def create_token(call: Call) -> dict[str, Any]:
    """Create a service account and its token. Only this response contains the token."""
    name, role = call.body["token_name"].strip(), call.body.get("role")
    _require_name(name)
    days = _days(call)
    if role is not None:
        _require_grantable(call.actor, role)
    if _name_exists(name):
        raise HTTPException(400, f"Service account with name {name!r} already exists. Please use a different name.")
    account = service_accounts.create_service_account(actor=call.actor, name=name, role=role)
    if "expires_in_days" in call.body and days is None:
        days = 0  # null: never, as 0; without the field: TOKEN_DEFAULT_DAYS
    issued = tokens.issue_token(actor=call.actor, account=account, days=days, name=account.name)
    return {
        **_issued_body(issued),
        "creator_user_id": account.owner.uid if account.owner else call.actor.uid,
        "message": _SAVE_IT,
    }


def delete_token(call: Call) -> dict[str, str]:
    """Revoke a token, and delete its account if it was the last one."""
    token = _token_to_manage(call, "You can only delete your own tokens. Only admins can delete tokens owned by other users.")
    tokens.retire_token(actor=call.actor, token=token)
    return {"message": "Token deleted successfully"}


def get_role(call: Call) -> dict[str, Any]:
    """Return the role of the token's account."""
    token = _token_to_manage(
        call,
        "You can only view roles for your own service accounts. "
        "Only admins can view roles for service accounts owned by other users.",
    )
    account = token.account
    return {
        "token_id": call.body["token_id"],
        "service_account_user_id": account_id(token.account.name, token.account.uid),
        "roles": [_role(account.role, account.owner.role if account.owner else None)],
    }


def update_role(call: Call) -> dict[str, Any]:
    """Set the role of the token's account. It can have no more permissions than the caller and the owner."""
    token = _token_to_manage(
        call,
        "You can only update roles for your own service accounts. "
        "Only admins can update roles for service accounts owned by other users.",
    )
    role = call.body["role"]
    _require_grantable(call.actor, role)
    service_accounts.update_service_account(actor=call.actor, account=token.account, role=role)
    return {
        "message": f"Service account role updated to {role}",
        "token_id": call.body["token_id"],
        "service_account_user_id": account_id(token.account.name, token.account.uid),
        "new_role": role,
    }


def rotate_token(call: Call) -> dict[str, Any]:
    """Replace a token by a new one and revoke the old one immediately. Only this response contains the new token."""
    token = _token_to_manage(call, "You can only rotate your own tokens. Only admins can rotate tokens owned by other users.")
    days = _days(call)
    issued = tokens.rotate_token(actor=call.actor, token=token, days=_remaining_days(token) if days is None else days)
    return {**_issued_body(issued), "message": _SAVE_NEW}


def _unrevoked(tokens: QuerySet[Token]) -> QuerySet[Token]:
    return tokens.filter(revoked_at=None).select_related("account__role", "account__owner__role")


def _token_to_manage(call: Call, forbidden_message: str) -> Token:
    """Return the token of `token_id`, or its successor. Raises HTTPException: 404, or 403 for the token of another user."""
    row = Token.objects.select_related("replaced_by").filter(key_id=call.body["token_id"]).first()
    while row is not None and row.revoked_at is not None:
        row = row.replaced_by
    token = _unrevoked(Token.objects.filter(pk=row.pk)).first() if row is not None else None
    if token is None:
        raise HTTPException(404, "Token not found")
    is_owner = call.actor.owner is not None and token.account.owner_id == call.actor.owner
    if not is_owner and not call.actor.holds(Permission.SERVICE_ACCOUNTS_WRITE):
        raise HTTPException(403, forbidden_message)
    return token


def _require_name(name: str) -> None:
    try:
        canonical_account_name(name)
    except BadName:
        raise HTTPException(400, _BAD_NAME) from None


def _name_exists(name: str) -> bool:
    lower = name.lower()
    return ServiceAccount.objects.filter(name=lower).exists() or User.objects.filter(username=lower).exists()


def _require_grantable(actor: Principal, role: str) -> None:
    """Raise HTTPException for a role that SkyPilot does not have, or that the caller is not allowed to grant."""
    if role not in ROLES:
        raise HTTPException(400, f"Invalid role {role!r}. Supported roles: {', '.join(ROLES)}.")
    if role == "admin" and skypilot_role(actor.permissions) != "admin":
        raise HTTPException(403, "Only admins can grant the admin role.")


def _days(call: Call) -> int | None:
    """Return `expires_in_days`; None if it is null or missing."""
    days: int | None = call.body.get("expires_in_days")
    if days is not None and days < 0:
        raise HTTPException(400, _BAD_DAYS)
    return days


def _remaining_days(token: Token) -> int:
    """Return the days until the successor of a token expires, without `expires_in_days`: as many as are left, at least one.

    The successor of a token that never expires never expires (0); that of an expired one is valid as long as a new token.
    """
    if token.expires_at is None:
        return 0
    left = token.expires_at - timezone.now()
    max_days = settings.TOKEN_MAX_DAYS or tokens.MAX_DAYS
    return min(max(1, left.days) if left > timedelta() else settings.TOKEN_DEFAULT_DAYS, max_days)


def _issued_body(issued: IssuedToken) -> dict[str, Any]:
    token = issued.token
    return {
        "token_id": token.key_id,
        "token_name": token.name or token.account.name,
        "token": issued.plaintext,
        "expires_at": _seconds(token.expires_at),
        "service_account_user_id": account_id(token.account.name, token.account.uid),
    }


def _role(role: Role, owner_role: Role | None) -> str:
    """Return the SkyPilot role of an account with this role, which that of its owner limits."""
    if owner_role is None:
        return skypilot_role(role.holds)
    return skypilot_role(cap_to_owner(role.name, role.holds, owner_role.name, owner_role.holds)[1])


def _seconds(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp())


_BASE: Final = "users/service-account-tokens"
_ID: Final = {"token_id": REQUIRED}
OPERATIONS: Final = (
    Operation("GET", _BASE, AUTHENTICATED, list_tokens),
    Operation(
        "POST", _BASE, _WRITE, create_token, {"token_name": REQUIRED, "expires_in_days": OPTIONAL_INTEGER, "role": OPTIONAL}
    ),
    Operation("POST", f"{_BASE}/delete", _WRITE, delete_token, _ID),
    Operation("POST", f"{_BASE}/get-role", _WRITE, get_role, _ID),
    Operation("POST", f"{_BASE}/update-role", _WRITE, update_role, {**_ID, "role": REQUIRED}),
    Operation("POST", f"{_BASE}/rotate", _WRITE, rotate_token, {**_ID, "expires_in_days": OPTIONAL_INTEGER}),
)
