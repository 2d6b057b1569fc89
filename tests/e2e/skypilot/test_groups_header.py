"""The groups that an auth proxy names, also "none": in SkyAuth's place is an API that keeps the request of the gateway."""

import pytest

from tests.http_client import HOST, ask
from tests.servers import free_port
from tests.sky import AUTH_PROXY, GATEWAYS, gateway_of
from tests.upstream import upstream

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("skypilot"), pytest.mark.sqlite]

NAME = "X-Auth-Request-Groups"


@pytest.mark.parametrize("target", ["/status", "/users/role"])
@pytest.mark.parametrize("gateway", GATEWAYS)
def test_no_groups_are_not_the_groups_of_before(gateway: str, target: str) -> None:
    """nginx sends no empty header. SkyAuth reads a missing groups header as no groups."""
    with upstream() as skyauth, gateway_of(gateway, port=free_port(), skyauth=skyauth.port, skypilot=free_port()) as port:

        def received(*groups: str, source: str = AUTH_PROXY) -> list[str]:
            ask(port, target, [("X-Auth-Request-Email", "bob@example.com"), *((NAME, text) for text in groups)], source=source)
            return skyauth.arrived[-1].all(NAME)

        assert received("a,b") == ["a,b"]
        assert received("") == ([""] if gateway == "caddy" else [])
        assert received() == []
        for forged in ("a,b", ""):
            assert received(forged, source=HOST) == []
