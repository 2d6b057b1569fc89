"""The cast, as callers of the SkyPilot API; and an empty cache of what its server reports."""

from types import ModuleType

import pytest

from skypilot import server_info
from tests import skypilot_client
from tests.callers import as_alice, as_bob, as_pipeline, as_vera

__all__ = ["as_alice", "as_bob", "as_pipeline", "as_vera"]


@pytest.fixture
def interface_client() -> ModuleType:
    return skypilot_client


@pytest.fixture(autouse=True)
def _empty_server_info() -> None:
    server_info.cache.__init__()
