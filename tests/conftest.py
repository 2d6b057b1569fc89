"""The cast, and what every test starts from."""

import signal
from collections.abc import Iterator
from functools import cache as once
from typing import Any

import pytest
from django.db import connection
from hypothesis import settings
from whitenoise.middleware import WhiteNoiseMiddleware

from accounts.hashers import Argon2idHasher
from accounts.models import ServiceAccount, User
from accounts.services import job_worker
from audit import record
from authn import passwords
from rbac import packs, principals, services
from rbac.models import Role
from rbac.principals import Principal
from tests import measured
from tests.databases import pytest_collection_modifyitems, pytest_fixture_setup, pytest_runtest_protocol
from tests.examples import examples
from tests.factories import ServiceAccountFactory, UserFactory, make_token
from tests.jobs import SameThreadWorker
from tests.races import separate_connections

# Hooks, and a fixture that many tests share.
__all__ = ["pytest_collection_modifyitems", "pytest_fixture_setup", "pytest_runtest_protocol", "separate_connections"]

LONGEST_ID = 60
HASHING_COST = {name: getattr(Argon2idHasher, name) for name in ("time_cost", "memory_cost", "parallelism")}

# `make test &` starts without SIGINT, and so would start every child; some are sent it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("skyauth", max_examples=examples())
settings.load_profile("skyauth")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(measured)
    if connection.vendor == "sqlite":  # pytest-django gives a backend other than Django's own a file for each worker
        connection.settings_dict["TEST"]["NAME"] = ":memory:"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a long value by its argument: some are random, and xdist's processes must agree on every test's name."""
    return argname if isinstance(val, str | bytes) and len(val) > LONGEST_ID else None


@pytest.fixture(scope="session", autouse=True)
def _cheap_hashes() -> Iterator[None]:
    """Hash passwords at argon2's lowest cost: what is under test is which passwords are hashed, and how often."""
    with pytest.MonkeyPatch.context() as patch:
        for name, cost in {"time_cost": 1, "memory_cost": 8}.items():
            patch.setattr(Argon2idHasher, name, cost)
        yield


@pytest.fixture
def hashing_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords at the cost that SkyAuth has in production."""
    for name, cost in HASHING_COST.items():
        monkeypatch.setattr(Argon2idHasher, name, cost)


@pytest.fixture(scope="session", autouse=True)
def _static_files_are_listed_once() -> Iterator[None]:
    """Give each test client the list of static files that the first one made: WhiteNoise reads every file's dates for each."""
    found: dict[str, Any] = {}
    make = WhiteNoiseMiddleware.add_files_from_finders

    def add_files_from_finders(middleware: WhiteNoiseMiddleware) -> None:
        if not found:
            make(middleware)
            found.update(middleware.files)
        middleware.files.update(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WhiteNoiseMiddleware, "add_files_from_finders", add_files_from_finders)
        yield


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    """Forget what processes remember between requests."""
    passwords.verified.__init__()
    record.sampler.__init__()


@pytest.fixture(autouse=True)
def _jobs_run_in_the_thread_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_worker, "worker", SameThreadWorker())


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
    services.replace_routes(actor=system, specs=_read_write_pack().routes, source="pack read-write")


@once
def _read_write_pack() -> packs.Pack:
    return packs.load("read-write")
