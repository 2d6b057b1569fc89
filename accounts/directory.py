"""Looks up who stands behind a key: one query each, always read, nothing remembered."""

from dataclasses import dataclass, field
from datetime import datetime

from django.contrib.sessions.backends.db import SessionStore
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import GroupRole, RoleSource, ServiceAccount, SignIn, Token, User, token_state
from rbac.permissions import granted, within


@dataclass(frozen=True, slots=True)
class UserRecord:
    """A user as sign-in needs it."""

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


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token with its account, as sign-in needs it. `permissions` are the account's, within its owner's."""

    pk: int
    digest: str = field(repr=False)
    state: str
    last_used_at: datetime | None
    account_pk: int
    account_uid: str
    account_name: str
    account_active: bool
    owner_pk: int | None
    owner_active: bool
    role: str
    permissions: frozenset[str]


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
)
_TOKEN = (
    "pk", "digest", "expires_at", "revoked_at", "last_used_at",
    "account__pk", "account__uid", "account__name", "account__is_active", "account__role__name", "account__role__permissions",
    "account__owner__pk", "account__owner__is_active", "account__owner__role__name", "account__owner__role__permissions",
)  # fmt: skip


def user_by_name(username: str) -> UserRecord | None:
    """Return the user of that canonical name, or None."""
    return _user(User.objects.filter(username=username))


def user_by_pk(pk: int) -> UserRecord | None:
    """Return the user of that row, or None."""
    return _user(User.objects.filter(pk=pk))


def _user(users: QuerySet[User]) -> UserRecord | None:
    row = users.values_list(*_USER).first()
    if row is None:
        return None
    pk, uid, username, email, display_name, password, sign_in, active, role, source, permissions, last_seen_at = row
    return UserRecord(
        pk,
        uid,
        username,
        email,
        display_name,
        password,
        SignIn(sign_in),
        active,
        role,
        RoleSource(source),
        granted(role, permissions),
        last_seen_at,
    )


def token_by_key(key_id: str) -> TokenRecord | None:
    """Return the token of that key id, or None."""
    row = Token.objects.filter(key_id=key_id).values_list(*_TOKEN).first()
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
    held = granted(role, permissions)
    if owner_pk is not None:
        role, held = within(role, held, owner_role, granted(owner_role, owner_permissions))
    return TokenRecord(
        pk, digest, token_state(expires_at, revoked_at, timezone.now()), last_used_at,
        account_pk, uid, name, active, owner_pk, owner_pk is None or owner_active, role, held,
    )  # fmt: skip


def session_data(session_key: str) -> dict[str, str]:
    """Return what a live session holds, or an empty mapping when it is unknown or has expired."""
    return dict(SessionStore(session_key).load())


def role_of_groups(groups: tuple[str, ...]) -> str | None:
    """Return the role that these groups give, the lowest priority number first, or None."""
    # A name that no row can hold, with a NUL or half a character in it, is an error to the database and no group to us.
    names = [name for name in groups if not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in name)]
    return GroupRole.objects.filter(group__in=names).order_by("priority", "group").values_list("role__name", flat=True).first()


def account_of(pk: int) -> ServiceAccount | None:
    """Return the service account of that row, or None."""
    return ServiceAccount.objects.filter(pk=pk).first()
