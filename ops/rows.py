"""The values of rows that the commands print, as JSON and in tables; never a secret."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.utils import timezone

from accounts.models import GroupRole, ServiceAccount, Session, Token, User
from audit.models import Entry
from rbac.models import Role, Route

M = TypeVar("M", bound=Model)


def stream(found: "QuerySet[M]", values: Callable[[M], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the values of each row, with little memory for many rows. The query ends with the generator, also in the middle."""
    with closing(found.iterator(chunk_size=1_000)) as iterator:  # type: ignore[type-var] # a generator, whatever its stub says
        for row in iterator:
            yield values(row)


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


def listed_user(row: User) -> dict[str, Any]:
    """Return the values of a user, with dates."""
    return user(row) | {"role_source": str(row.role_source), "created_at": row.created_at, "last_seen_at": row.last_seen_at}


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


def listed_service_account(row: ServiceAccount) -> dict[str, Any]:
    """Return the values of a service account, with its origin."""
    return service_account(row) | {"created_at": row.created_at, "created_by": row.created_by}


def session(row: Session) -> dict[str, Any]:
    """Return the values of a session. Its id is a digest, with which nobody can sign in."""
    return {
        "id": row.session_key,
        "user": row.user.username if row.user else None,
        "kind": str(row.kind),
        "created_at": row.created_at,
        "last_used_at": row.last_used_at,
        "expires_at": row.expires_at,
        "address": row.address or None,
        "agent": row.agent or None,
    }


def role(row: Role) -> dict[str, Any]:
    return {
        "name": row.name,
        "description": row.description,
        "builtin": row.builtin,
        "permissions": sorted(row.holds),
    }


def group_role(row: GroupRole) -> dict[str, Any]:
    return {"group": row.group, "role": row.role.name, "priority": row.priority}


def route(row: Route) -> dict[str, Any]:
    return {
        "position": row.position,
        "host": row.host,
        "path": row.path,
        "methods": row.methods,
        "permission": row.permission,
        "note": row.note,
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


def audit_entry(row: Entry) -> dict[str, Any]:
    names = ("at", "event", "actor", "actor_uid", "method", "peer", "target", "reason", "reference", "data")
    return {"id": row.pk} | {name: getattr(row, name) for name in names}
