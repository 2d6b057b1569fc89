"""The cast, as callers of the REST API."""

from types import ModuleType

import pytest

from rbac.models import Role
from tests.api import api_client
from tests.api.api_client import Api
from tests.api.world import world
from tests.callers import as_alice, as_bob, as_pipeline, as_vera
from tests.factories import UserFactory

__all__ = ["as_alice", "as_bob", "as_pipeline", "as_vera", "world"]


@pytest.fixture
def interface_client() -> ModuleType:
    return api_client


@pytest.fixture
def helpdesk(db: None) -> Role:
    """A role that manages users and is not admin."""
    user = Role.objects.get(name="user")
    return Role.objects.create(name="helpdesk", permissions=sorted([*user.permissions, "users:write"]))


@pytest.fixture
def as_helpdesk(helpdesk: Role) -> Api:
    """A user with that role, with a session."""
    return api_client.session(UserFactory(username="helen@example.com", role=helpdesk))
