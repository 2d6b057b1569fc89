"""The cast, and what every test starts from."""

import pytest
from django.core.cache import cache

from accounts.models import ServiceAccount, User
from audit import record
from authn import passwords
from rbac import packs, principals, services
from rbac.models import Role
from rbac.principals import Principal
from tests.databases import pytest_collection_modifyitems, pytest_fixture_setup, pytest_runtest_protocol
from tests.factories import ServiceAccountFactory, UserFactory, make_token
from tests.races import separate_connections

# Hooks, and a fixture that many tests share.
__all__ = ["pytest_collection_modifyitems", "pytest_fixture_setup", "pytest_runtest_protocol", "separate_connections"]

LONGEST_ID = 60


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a long value by its argument: some are random, and xdist's processes must agree on every test's name."""
    return argname if isinstance(val, str | bytes) and len(val) > LONGEST_ID else None


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    """Forget what processes remember between requests."""
    passwords.verified.__init__()
    record.sampler.__init__()
    cache.clear()


@pytest.fixture
def alice(db: None) -> User:
    """The admin."""
    return UserFactory(username="alice@example.com", role=Role.objects.get(name="admin"))


@pytest.fixture
def bob(db: None) -> User:
    """An ordinary user."""
    return UserFactory(username="bob@example.com")


@pytest.fixture
def vera(db: None) -> User:
    """A viewer."""
    return UserFactory(username="vera@example.com", role=Role.objects.get(name="viewer"))


@pytest.fixture
def pipeline(bob: User) -> ServiceAccount:
    """Bob's service account, with the role user."""
    return ServiceAccountFactory(name="pipeline", owner=bob, created_by=bob.username)


@pytest.fixture
def pipeline_token(pipeline: ServiceAccount) -> str:
    """A good token of `pipeline`."""
    return make_token(pipeline)[1]


@pytest.fixture
def system() -> Principal:
    """SkyAuth itself: may do everything."""
    return principals.system("tests")


@pytest.fixture
def read_write(db: None, system: Principal) -> None:
    """The route pack `read-write`."""
    services.replace_routes(actor=system, specs=packs.load("read-write").routes, source="pack read-write")
