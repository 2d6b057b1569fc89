"""The shared password with SKYPILOT_SHARED_BASIC: it opens the server's API and not its dashboard, which needs a user's role."""

from collections.abc import Iterator

import bcrypt
import pytest

from tests.e2e.conftest import SHARED_PASSWORD
from tests.e2e.skypilot.conftest import Ground
from tests.http_client import HOST, ask, basic
from tests.servers import free_port, skyauth_server
from tests.sky import GATEWAYS, gateway_of

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("skypilot"), pytest.mark.sqlite]

TEAM = basic("team", SHARED_PASSWORD)
ROLE = "/internal/dashboard/users/role"  # what the dashboard asks first, and cannot do without


@pytest.fixture(scope="module", params=GATEWAYS)
def port(request: pytest.FixtureRequest, ground: Ground) -> Iterator[int]:
    """Each gateway, in front of the real server."""
    own = free_port()
    settings = {
        "AUTH_STRING": "team:" + bcrypt.hashpw(SHARED_PASSWORD.encode(), bcrypt.gensalt(4)).decode(),
        "SKYPILOT_SHARED_BASIC": "true",
        "SKYPILOT_URL": ground.server.address,
        "PUBLIC_URL": f"http://{HOST}:{own}",
    }
    with skyauth_server(**settings) as skyauth:
        skyauth.console("load_pack", name="skypilot")
        with gateway_of(request.param, port=own, skyauth=skyauth.port, skypilot=ground.server.port):
            yield own


def test_the_shared_password_opens_the_servers_api(port: int) -> None:
    assert ask(port, "/workspaces", [TEAM]).status == 200
    assert ask(port, "/workspaces/config", [TEAM]).status == 200, "which the server allows to administrators alone"
    health = ask(port, "/api/health", [TEAM, ("X-SkyPilot-API-Version", "62"), ("X-SkyPilot-Version", "0.14.1")]).json
    assert (health["status"], health["user"]) == ("healthy", None)


def test_it_does_not_open_the_servers_dashboard(port: int, ground: Ground) -> None:
    """docs/guides/skypilot.md says so: the server itself answers the question for the role of nobody, and SkyAuth does not."""
    assert ground.server.ask(ROLE.removeprefix("/internal/dashboard")).json["role"] == "admin"
    assert ask(port, "/dashboard/clusters", [TEAM]).status == 200, "the page, without its data"
    refused = ask(port, ROLE, [TEAM])
    assert refused.status == 401
    assert any(line.startswith("Basic ") for line in refused.all("WWW-Authenticate")), "the browser asks for a password again"
