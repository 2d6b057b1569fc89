"""Rows for tests. The cast: alice (admin), bob (user), vera (viewer), mallory (nobody), and bob's account `pipeline`."""

from datetime import timedelta

import factory
from django.contrib.auth.hashers import make_password
from django.utils import timezone

from accounts import token_format
from accounts.identifiers import account_uid, user_uid
from accounts.models import GroupRole, ServiceAccount, SignIn, Token, User
from rbac.models import Role
from rbac.principals import Kind, Method, Principal

PASSWORD = "correct horse battery staple"
# Hashed once: what is under test is rarely the hashing.
_HASH = None


def password_hash() -> str:
    """Return the hash of PASSWORD."""
    global _HASH  # noqa: PLW0603
    _HASH = _HASH or make_password(PASSWORD)
    return _HASH


class UserFactory(factory.django.DjangoModelFactory[User]):
    """A user with the password PASSWORD."""

    class Meta:
        model = User

    username = factory.Sequence(lambda n: f"person{n}@example.com")
    uid = factory.LazyAttribute(lambda user: user_uid(user.username))
    email = factory.LazyAttribute(lambda user: user.username if "@" in user.username else "")
    sign_in = SignIn.BOTH
    password = factory.LazyFunction(password_hash)
    role = factory.LazyFunction(lambda: Role.objects.get(name="user"))


class ServiceAccountFactory(factory.django.DjangoModelFactory[ServiceAccount]):
    """A service account without an owner."""

    class Meta:
        model = ServiceAccount

    name = factory.Sequence(lambda n: f"machine{n}")
    uid = factory.LazyFunction(account_uid)
    created_by = "tests"
    role = factory.LazyFunction(lambda: Role.objects.get(name="user"))


class GroupRoleFactory(factory.django.DjangoModelFactory[GroupRole]):
    """A group that gives the role `user`."""

    class Meta:
        model = GroupRole

    group = factory.Sequence(lambda n: f"group{n}")
    role = factory.LazyFunction(lambda: Role.objects.get(name="user"))


def make_token(account: ServiceAccount, *, days: float | None = 30, **fields: object) -> tuple[Token, str]:
    """Return a token's row and its plaintext, past the service layer; `days` may be negative for an expired one."""
    minted = token_format.mint()
    now = timezone.now()
    values: dict[str, object] = {"name": "ci", "created_by": "tests", "expires_at": None}
    if days is not None:
        values |= {"expires_at": now + timedelta(days=days), "created_at": now + timedelta(days=min(days, 0) - 1)}
    row = Token.objects.create(account=account, key_id=minted.key_id, digest=minted.digest, **{**values, **fields})
    return row, minted.plaintext


def principal(user: User, method: Method = Method.SESSION) -> Principal:
    """Return the user as services and doors see them."""
    return Principal(
        Kind.USER,
        user.uid,
        user.username,
        role=user.role.name,
        permissions=user.permissions,
        method=method,
        pk=user.pk,
        owner=user.pk,
    )
