"""The real server, with sign-in by header on, so that a forged header would gain something."""

from collections.abc import Iterator

import pytest

from tests.servers import SkyAuth, skyauth_server

SETTINGS = {"AUTH_USER_HEADER_FORMAT": "plaintext", "RBAC_DEFAULT_ROLE": "user", "AUDIT_REFUSALS_PER_MINUTE": "100000"}


@pytest.fixture(scope="session")
def server() -> Iterator[SkyAuth]:
    """SkyAuth that trusts 127.0.0.1 and has the admin alice@example.com."""
    with skyauth_server(**SETTINGS) as running:
        running.console("create_user", name="alice@example.com", role="admin")
        yield running


@pytest.fixture(scope="session")
def token(server: SkyAuth) -> str:
    """A token of a service account with the role user."""
    server.console("create_account", name="pipeline", role="user")
    return str(server.console("issue", account="pipeline"))
