"""Browsers of the cast, signed in, and the rows that pages show."""

from collections.abc import Callable

import pytest
from django.test import Client

from accounts.models import User
from rbac.models import Role
from tests.factories import UserFactory

Visit = Callable[[User], Client]


@pytest.fixture
def visit(db: None) -> Visit:
    """Return a browser in which a user is signed in."""

    def sign_in(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return sign_in


@pytest.fixture
def office(alice: User, visit: Visit) -> Client:
    """Alice's browser."""
    return visit(alice)


@pytest.fixture
def helper(db: None) -> User:
    """One whose role an operator defined: may enter the admin site and read users, and no more."""
    role = Role.objects.create(name="helpdesk", permissions=["admin-site:use", "users:read"])
    return UserFactory(username="helper@example.com", role=role)


@pytest.fixture
def manager(db: None) -> User:
    """One who may change users, accounts, roles and routes, and holds little else: nothing to give away."""
    held = ["admin-site:use", "roles:read", "roles:write", "routes:read", "routes:write", "service-accounts:read"]
    role = Role.objects.create(
        name="manager", permissions=[*held, "service-accounts:write", "upstream:read", "users:read", "users:write"]
    )
    return UserFactory(username="manager@example.com", role=role)
