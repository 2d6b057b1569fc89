"""A real server with every sign-in method, and the header lines of each."""

import base64
from collections.abc import Iterator

import bcrypt
import pytest

from rbac.principals import Method
from tests.factories import PASSWORD
from tests.servers import SkyAuth, skyauth_server

ALICE = "alice@example.com"
TEAM = "team"


@pytest.fixture(scope="session")
def server() -> Iterator[SkyAuth]:
    """SkyAuth with every sign-in method, and an admin to use each of them."""
    shared = f"{TEAM}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}"
    with skyauth_server(AUTH_USER_HEADER_FORMAT="plaintext", RBAC_DEFAULT_ROLE="user", AUTH_STRING=shared) as running:
        running.console("create_user", name=ALICE, role="admin", password=PASSWORD, sign_in="both")
        running.console("create_account", name="pipeline", role="admin")
        yield running


@pytest.fixture(scope="session")
def credentials(server: SkyAuth) -> dict[Method, list[tuple[str, str]]]:
    """The header lines of each sign-in method."""

    def basic(name: str) -> list[tuple[str, str]]:
        return [("Authorization", "Basic " + base64.b64encode(f"{name}:{PASSWORD}".encode()).decode())]

    def session(kind: str) -> list[tuple[str, str]]:
        return [("Cookie", f"skyauth={server.console('begin_session', name=ALICE, kind=kind)}")]

    return {
        Method.NONE: [],
        Method.BEARER: [("Authorization", f"Bearer {server.console('issue', account='pipeline')}")],
        Method.BASIC: basic(ALICE),
        Method.PROXY: [("X-Auth-Request-Email", ALICE)],
        Method.SESSION: session("browser"),
        Method.CLI: session("cli"),
        Method.SHARED: basic(TEAM),
    }
