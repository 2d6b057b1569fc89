"""The cast, as callers of the API."""

import pytest

from accounts.models import User
from rbac.models import Role
from tests.api import api_client
from tests.api.api_client import Api
from tests.factories import UserFactory


@pytest.fixture
def as_alice(alice: User) -> Api:
    """The admin, with a session."""
    return api_client.session(alice)


@pytest.fixture
def as_bob(bob: User) -> Api:
    """The ordinary user, with a session."""
    return api_client.session(bob)


@pytest.fixture
def as_vera(vera: User) -> Api:
    """The viewer, with a session."""
    return api_client.session(vera)


@pytest.fixture
def as_pipeline(pipeline_token: str) -> Api:
    """Bob's service account, with its token."""
    return api_client.bearer(pipeline_token)


@pytest.fixture
def helpdesk(db: None) -> Role:
    """A role that manages users and is not admin."""
    user = Role.objects.get(name="user")
    return Role.objects.create(name="helpdesk", permissions=sorted([*user.permissions, "users:write"]))


@pytest.fixture
def as_helpdesk(helpdesk: Role) -> Api:
    """Somebody with that role, with a session."""
    return api_client.session(UserFactory(username="helen@example.com", role=helpdesk))
