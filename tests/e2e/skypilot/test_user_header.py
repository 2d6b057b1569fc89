"""An auth proxy that names people in a header of its own choice: from its address alone is it heard."""

import pytest

from tests.http_client import ask
from tests.servers import HOST, free_port, skyauth_server
from tests.sky import AUTH_PROXY, GATEWAYS, gateway_of

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("skypilot"), pytest.mark.sqlite]

NAMES = ("X-Forwarded-Email", "X-Webauth-User")  # one that a gateway strips anyway, and one that nobody has heard of


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gateway", GATEWAYS)
def test_promise_1_the_auth_proxys_header_is_its_own_whatever_it_is_called(gateway: str, name: str) -> None:
    port, nobody = free_port(), free_port()
    # As docs/guides/skypilot-sso.md says: Caddy hands the header on as it came, nginx as X-Auth-Request-Email.
    header = {"AUTH_USER_HEADER": name} if gateway == "caddy" else {}
    with (
        skyauth_server(
            TRUSTED_PROXIES=f"{HOST},{AUTH_PROXY}",
            PUBLIC_URL=f"http://{HOST}:{port}",
            AUTH_USER_HEADER_FORMAT="plaintext",
            RBAC_DEFAULT_ROLE="admin",
            **header,
        ) as skyauth,
        gateway_of(gateway, port=port, skyauth=skyauth.port, skypilot=nobody, user_header=name),
    ):
        assert ask(port, "/users/role", [(name, "alice@example.com")], source=AUTH_PROXY).status == 200
        for forged in (name, name.lower(), name.replace("-", "_"), "X-Auth-Request-Email"):
            assert ask(port, "/users/role", [(forged, "alice@example.com")]).status == 401
            assert ask(port, "/workspaces", [(forged, "alice@example.com")]).status == 401


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_promise_46_no_groups_can_be_said_through_a_gateway(gateway: str) -> None:
    port, nobody = free_port(), free_port()
    with (
        skyauth_server(
            TRUSTED_PROXIES=f"{HOST},{AUTH_PROXY}",
            PUBLIC_URL=f"http://{HOST}:{port}",
            AUTH_USER_HEADER_FORMAT="plaintext",
            AUTH_GROUPS_HEADER="X-Auth-Request-Groups",
            RBAC_DEFAULT_ROLE="viewer",
        ) as skyauth,
        gateway_of(gateway, port=port, skyauth=skyauth.port, skypilot=nobody),
    ):
        skyauth.console("create_user", name="admin@example.com", role="admin")
        skyauth.console("map_group", group="root", role="admin")

        def role(*groups: str) -> str:
            lines = [("X-Auth-Request-Email", "carol@example.com"), *(("X-Auth-Request-Groups", text) for text in groups)]
            return str(ask(port, "/users/role", lines, source=AUTH_PROXY).json["role"])

        for groups in ((), ("",), (" ",), ("other",)):
            assert role("root") == "admin"
            assert role(*groups) == "viewer", groups
