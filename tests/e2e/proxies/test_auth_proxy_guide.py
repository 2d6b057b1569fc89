"""The lines `#a|` of the shipped Caddyfile (docs/guides/auth-proxy.md): only an auth proxy names users and groups."""

import pytest

from tests.e2e.proxies.conftest import Ground
from tests.e2e.proxies.test_sizes import GROUPS
from tests.http_client import HOST, ask
from tests.proxies import CADDY, running
from tests.sky import AUTH_PROXY

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("proxies"), pytest.mark.sqlite]

NINA = ("X-Auth-Request-Email", "nina@example.com")


def for_an_auth_proxy(text: str) -> str:
    """Return the Caddyfile for an auth proxy at AUTH_PROXY."""
    return text.replace("{$AUTH_PROXY:0.0.0.0/32}", AUTH_PROXY)


def test_promise_50_300_groups_of_an_auth_proxy_are_decided_and_arrive(ground: Ground) -> None:
    ports = {"skyauth": ground.tapped.port, "upstream": ground.upstream.port, "billing": ground.billing.port}
    with running(CADDY, **ports, mark="a", edit=for_an_auth_proxy) as port:
        for groups in (GROUPS, ""):
            named = [NINA, ("X-Auth-Request-Groups", groups)]
            with ground.tapped.listening_in() as asked:
                assert ask(port, "/", named, source=AUTH_PROXY).status == 200
            assert b"X-Auth-Request-Groups: %s\r\n" % groups.encode() in bytes(asked), "also that there are none"
            arrived = ground.upstream.arrived[-1]
            assert (arrived.all(NINA[0]), arrived.all("X-Auth-Request-Groups")) == ([NINA[1]], [groups])
            assert ask(port, "/", named, source=HOST).status == 401
