"""Rows as the commands show them: one flat mapping for `--json` and for the tables, and never a secret."""

from typing import Any

from django.utils import timezone

from accounts.models import ServiceAccount, Token, User


def user(row: User) -> dict[str, Any]:
    """Return a user's public values."""
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
    """Return a service account's public values."""
    return {
        "name": row.name,
        "uid": row.uid,
        "role": row.role.name,
        "owner": row.owner.username if row.owner else None,
        "description": row.description,
        "active": row.is_active,
    }


def token(row: Token) -> dict[str, Any]:
    """Return a token's metadata. Its `state` tells of the token; `stopped` of whoever it stands for."""
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
