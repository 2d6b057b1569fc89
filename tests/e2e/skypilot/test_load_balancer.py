"""A load balancer in front of the gateways for SkyPilot: with the marked lines it names the client, and never a user."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.proxies.test_load_balancer import FORGED, NUMBERS, refused
from tests.http_client import HOST, ask, bearer
from tests.proxies import LOAD_BALANCER, balanced
from tests.servers import SkyAuth, free_port, skyauth_server
from tests.sky import AUTH_PROXY, GATEWAYS, gateway_of
from tests.upstream import Upstream, upstream

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("skypilot"), pytest.mark.sqlite]

ALICE = ("X-Auth-Request-Email", "alice@example.com")


@dataclass(frozen=True)
class Balanced:
    """A gateway with the lines of `mark` uncommented, in front of an API that keeps what reaches it."""

    mark: str
    port: int
    skyauth: SkyAuth
    server: Upstream
    token: str

    def refused(self, client: str, source: str = LOAD_BALANCER) -> list[str]:
        return refused(self.skyauth, self.port, self.mark, client, source=source)


@pytest.fixture(scope="module")
def skyauth() -> Iterator[SkyAuth]:
    settings = {"AUTH_USER_HEADER_FORMAT": "plaintext", "RBAC_DEFAULT_ROLE": "admin", "TRUSTED_PROXIES": f"{HOST},{AUTH_PROXY}"}
    with skyauth_server(**settings) as server:
        server.console("create_account", name="pipeline", role="user")
        yield server


@pytest.fixture(scope="module", params=[(name, mark) for name in GATEWAYS for mark in "fp"], ids="-".join)
def gateway(request: pytest.FixtureRequest, skyauth: SkyAuth) -> Iterator[Balanced]:
    """Each gateway, for each kind of load balancer."""
    name, mark = request.param
    with (
        upstream() as server,
        gateway_of(name, port=free_port(), skyauth=skyauth.port, skypilot=server.port, mark=mark) as port,
    ):
        yield Balanced(mark, port, skyauth, server, skyauth.console("issue", account="pipeline"))


@pytest.mark.parametrize("form", ["198.51.100.{}", "2001:db8::{}", "198.51.100.{}:51234", "[2001:db8::{}]:51234"])
def test_skyauth_and_the_server_receive_the_clients_address(gateway: Balanced, form: str) -> None:
    if gateway.mark == "p" and ":51234" in form:
        return  # the PROXY protocol has a field of its own for the port
    written = form.format(next(NUMBERS))
    client = written.replace(":51234", "").strip("[]")
    chain = written if gateway.mark == "p" else f"{FORGED}, {written}"
    assert gateway.refused(chain) == [client]
    assert balanced(gateway.port, gateway.mark, chain, bearer(gateway.token), ("X-Forwarded-Proto", "https")).status == 200
    arrived = gateway.server.arrived[-1]
    assert arrived.all("X-Forwarded-For") == [client]
    assert arrived.all("X-Forwarded-Proto") == ["https" if gateway.mark == "f" else "http"]


def test_nobody_else_names_a_client(gateway: Balanced) -> None:
    assert set(gateway.refused(f"198.51.100.{next(NUMBERS)}", source=HOST)) <= {HOST}


def test_a_load_balancer_names_no_user(gateway: Balanced) -> None:
    assert balanced(gateway.port, gateway.mark, "198.51.100.7", ALICE).status == 401
    if gateway.mark == "f":
        assert balanced(gateway.port, gateway.mark, AUTH_PROXY, ALICE).status == 401, "not even in the auth proxy's name"


def test_promise_1_the_auth_proxy_still_names_users_and_their_addresses(gateway: Balanced) -> None:
    if gateway.mark == "p":
        return  # no auth proxy sends the PROXY protocol
    said = [ALICE, ("X-Forwarded-For", "192.0.2.9")]
    assert ask(gateway.port, "/", said, source=AUTH_PROXY).status == 200
    arrived = gateway.server.arrived[-1]
    assert (arrived.all("X-Auth-Request-Email"), arrived.all("X-Forwarded-For")) == ([ALICE[1]], [f"192.0.2.9, {AUTH_PROXY}"])
