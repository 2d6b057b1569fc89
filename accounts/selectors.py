"""Look-ups of one row by its key, for authentication on the verify path: one query each, never cached.

Django builds each query once, and its text is executed from then on: building a query costs ten times as much as a look-up.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from django.db import connection, models
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import GroupRole, RoleSource, ServiceAccount, Session, SessionKind, SignIn, Token, User, token_state
from rbac.permissions import cap_to_owner, effective_permissions


@dataclass(frozen=True, slots=True)
class UserRecord:
    """The columns of a user that authentication needs."""

    pk: int
    uid: str
    username: str
    email: str
    display_name: str
    password: str = field(repr=False)
    sign_in: str
    active: bool
    role: str
    role_source: str
    permissions: frozenset[str]
    last_seen_at: datetime | None
    groups_seen_at: datetime | None = None
    settled: bool = True  # False: the identity provider's groups give another role, which may be stored at any time


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """The columns of a token and its account that authentication needs. `permissions` are limited to those of the owner."""

    pk: int
    digest: str = field(repr=False)
    state: str
    expires_at: datetime | None
    last_used_at: datetime | None
    account_pk: int
    account_uid: str
    account_name: str
    account_active: bool
    owner_pk: int | None
    owner_active: bool
    role: str
    permissions: frozenset[str]
    roles: tuple[str, ...]  # those of the account and of its owner, on which `role` depends


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """The columns of a session and its user that authentication needs; `data` is the encoded session data."""

    pk: str
    user: UserRecord
    kind: SessionKind
    data: str = field(repr=False)
    created_at: datetime
    last_used_at: datetime
    expire_date: datetime


_USER = (
    "pk",
    "uid",
    "username",
    "email",
    "display_name",
    "password",
    "sign_in",
    "is_active",
    "role__name",
    "role_source",
    "role__permissions",
    "last_seen_at",
    "groups_seen_at",
)
_SESSION = ("pk", "session_data", "kind", "created_at", "last_used_at", "expire_date")
_TOKEN = (
    "pk", "digest", "expires_at", "revoked_at", "last_used_at",
    "account__pk", "account__uid", "account__name", "account__is_active", "account__role__name", "account__role__permissions",
    "account__owner__pk", "account__owner__is_active", "account__owner__role__name", "account__owner__role__permissions",
)  # fmt: skip


@lru_cache
def _statement(table: type[models.Model], columns: tuple[str, ...], key: str) -> str:
    """Return the SQL for these columns of the row with a key; the key is its only parameter."""
    # Django writes the placeholder, and this module binds the value: "0" is valid for every type of key.
    rows: QuerySet[Any] = table._default_manager.filter(**{key: "0"}).order_by().values_list(*columns)
    statement, _ = rows.query.sql_with_params()
    return statement


def _row(table: type[models.Model], columns: tuple[str, ...], key: str, value: str | int) -> tuple[Any, ...] | None:
    with connection.cursor() as cursor:
        cursor.execute(_statement(table, columns, key), [value])
        return cursor.fetchone()  # type: ignore[no-any-return]


def _utc(stored: datetime) -> datetime:
    """Return a stored time with its time zone, which SQLite does not store."""
    return stored if stored.tzinfo is not None else stored.replace(tzinfo=UTC)


def _moment(stored: datetime | None) -> datetime | None:
    return None if stored is None else _utc(stored)


@lru_cache(1_024)  # there are few roles
def _permissions(role: str, stored: str | None) -> frozenset[str]:
    """Return the effective permissions of a role with this stored list; a malformed list gives none."""
    names = json.loads(stored) if stored is not None else None
    return effective_permissions(role, [name for name in names if isinstance(name, str)] if isinstance(names, list) else [])


def user_by_name(username: str) -> UserRecord | None:
    """Return the user with this canonical name, or None."""
    return _user(_row(User, _USER, "username", username))


def user_by_pk(pk: int) -> UserRecord | None:
    """Return the user with this primary key, or None."""
    return _user(_row(User, _USER, "pk", pk))


def _user(row: tuple[Any, ...] | None) -> UserRecord | None:
    if row is None:
        return None
    pk, uid, username, email, display_name, password, sign_in, active, role, source, permissions, last_seen_at, groups_seen_at = (
        row
    )
    return UserRecord(
        pk,
        uid,
        username,
        email,
        display_name,
        password,
        SignIn(sign_in),
        bool(active),
        role,
        RoleSource(source),
        _permissions(role, permissions),
        _moment(last_seen_at),
        _moment(groups_seen_at),
    )


def token_by_key(key_id: str) -> TokenRecord | None:
    """Return the token with this key id, or None."""
    row = _row(Token, _TOKEN, "key_id", key_id)
    if row is None:
        return None
    (
        pk,
        digest,
        expires_at,
        revoked_at,
        last_used_at,
        account_pk,
        uid,
        name,
        active,
        role,
        permissions,
        owner_pk,
        owner_active,
        owner_role,
        owner_permissions,
    ) = row
    expires_at = _moment(expires_at)
    effective = _permissions(role, permissions)
    roles = (role,) if owner_pk is None or role == owner_role else (role, owner_role)
    if owner_pk is not None:
        role, effective = cap_to_owner(role, effective, owner_role, _permissions(owner_role, owner_permissions))
    return TokenRecord(
        pk, digest, token_state(expires_at, revoked_at, timezone.now()), expires_at, _moment(last_used_at),
        account_pk, uid, name, bool(active), owner_pk, owner_pk is None or bool(owner_active), role, effective, roles,
    )  # fmt: skip


def session_by_digest(digest: str) -> SessionRecord | None:
    """Return the session with this digest, expired or not, and its user; None if it is unknown or has no user."""
    row = _row(Session, (*_SESSION, *(f"user__{name}" for name in _USER)), "session_key", digest)
    if row is None:
        return None
    (pk, data, kind, *moments), columns = row[: len(_SESSION)], row[len(_SESSION) :]
    created_at, last_used_at, expire_date = (_utc(moment) for moment in moments)
    user = _user(columns) if columns[0] is not None else None
    return None if user is None else SessionRecord(pk, user, SessionKind(kind), data, created_at, last_used_at, expire_date)


def role_of_groups(groups: tuple[str, ...]) -> str | None:
    """Return the role that these groups give, or None. The group with the lowest priority number decides."""
    # The database raises an error for a name with NUL or half a surrogate pair. No row can have such a name.
    names = [name for name in groups if not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in name)]
    return GroupRole.objects.filter(group__in=names).order_by("priority", "group").values_list("role__name", flat=True).first()


def account_of(pk: int) -> ServiceAccount | None:
    """Return the service account with this primary key, or None."""
    return ServiceAccount.objects.filter(pk=pk).first()
