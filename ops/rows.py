"""The values of rows that the commands print, as JSON and in tables; never a secret."""

from typing import Any

from django.utils import timezone

from accounts.models import ServiceAccount, Token, User


def user(row: User) -> dict[str, Any]:
    return {
        "username": row.username,
        "uid": row.uid,
        "role": row.role.name,
        "sign_in": str(row.sign_in),
        "email": row.email,
        "display_name": row.display_name,
        "active": row.is_active,
    }


def service_account(row: ServiceAccount) -> dict[str, Any]:
    return {
        "name": row.name,
        "uid": row.uid,
        "upstream_name": row.upstream_name,
        "role": row.role.name,
        "owner": row.owner.username if row.owner else None,
        "description": row.description,
        "active": row.is_active,
    }


def token(row: Token) -> dict[str, Any]:
    """Return the metadata of a token. `state` is about the token itself; `stopped` about its account and owner."""
    account = row.account
    owner_stopped = account.owner is not None and not account.owner.is_active
    return {
        "key_id": row.key_id,
        "account": account.name,
        "name": row.name,
        "state": row.state(timezone.now()),
        "stopped": "account disabled" if not account.is_active else "owner disabled" if owner_stopped else None,
        "created_at": row.created_at,
        "created_by": row.created_by,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
        "last_used_at": row.last_used_at,
        "last_used_from": row.last_used_from or None,
    }
