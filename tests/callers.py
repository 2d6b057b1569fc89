"""The cast as callers of an interface. A conftest imports these fixtures and defines `interface_client`, a test client module."""

from types import ModuleType
from typing import Any

import pytest

from accounts.models import User


@pytest.fixture
def as_alice(interface_client: ModuleType, alice: User) -> Any:
    """The admin, with a session."""
    return interface_client.session(alice)


@pytest.fixture
def as_bob(interface_client: ModuleType, bob: User) -> Any:
    """The ordinary user, with a session."""
    return interface_client.session(bob)


@pytest.fixture
def as_vera(interface_client: ModuleType, vera: User) -> Any:
    """The viewer, with a session."""
    return interface_client.session(vera)


@pytest.fixture
def as_pipeline(interface_client: ModuleType, pipeline_token: str) -> Any:
    """Bob's service account, with its token."""
    return interface_client.bearer(pipeline_token)
