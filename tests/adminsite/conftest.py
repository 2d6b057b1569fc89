"""Signed-in browsers of the cast, and the rows that pages show."""

from collections.abc import Callable

import pytest
from django.test import Client

from accounts.models import User
from rbac.models import Role
from tests.factories import UserFactory

Visit = Callable[[User], Client]


@pytest.fixture
def visit(db: None) -> Visit:
    """Return a function that signs a user in and returns the browser."""

    def sign_in(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return sign_in


@pytest.fixture
def alice_browser(alice: User, visit: Visit) -> Client:
    return visit(alice)


@pytest.fixture
def helper(db: None) -> User:
    """A user with a custom role that can open the admin and read users, and nothing else."""
    role = Role.objects.create(name="helpdesk", permissions=["admin-site:use", "users:read"])
    return UserFactory(username="helper@example.com", role=role)


@pytest.fixture
def manager(db: None) -> User:
    """A user who can change users, accounts, roles and routes, and has few permissions to grant."""
    held = ["admin-site:use", "roles:read", "roles:write", "routes:read", "routes:write", "service-accounts:read"]
    role = Role.objects.create(
        name="manager", permissions=[*held, "service-accounts:write", "upstream:read", "users:read", "users:write"]
    )
    return UserFactory(username="manager@example.com", role=role)
