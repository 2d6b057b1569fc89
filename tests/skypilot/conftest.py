"""The cast, as callers of the SkyPilot door; and what the door remembers of the server behind it."""

import pytest

from accounts.models import ServiceAccount, User
from skypilot import server_info
from tests import skypilot_client
from tests.skypilot_client import Sky


@pytest.fixture(autouse=True)
def _server_forgotten() -> None:
    """Forget what the server behind SkyAuth said."""
    server_info.cache.__init__()


@pytest.fixture
def as_alice(alice: User) -> Sky:
    """The admin, with a session."""
    return skypilot_client.session(alice)


@pytest.fixture
def as_bob(bob: User) -> Sky:
    """The ordinary user, with a session."""
    return skypilot_client.session(bob)


@pytest.fixture
def as_vera(vera: User) -> Sky:
    """The viewer, with a session."""
    return skypilot_client.session(vera)


@pytest.fixture
def as_pipeline(pipeline: ServiceAccount, pipeline_token: str) -> Sky:
    """Bob's service account, with its token."""
    return skypilot_client.bearer(pipeline_token)
