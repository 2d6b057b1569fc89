"""Two replicas behind each of the five proxies, from the lines `#2|` of the shipped files, restarted one after the other."""

import time
from collections.abc import Iterator

import pytest

from tests.examples import examples
from tests.http_client import ask, bearer
from tests.load import get, load
from tests.proxies import PROXIES, Proxy, running
from tests.servers import SkyAuth, replica, skyauth_server, wait_until
from tests.upstream import Upstream, upstream

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.xdist_group("proxies"), pytest.mark.sqlite]

DRAIN = 3  # seconds; the proxies check once a second
ROUNDS = examples(1, long=2)  # restarts of both


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[SkyAuth, SkyAuth]]:
    with skyauth_server() as first, replica(first, drain=DRAIN) as second:
        first.stop()
        first.start(drain=DRAIN)
        yield first, second


@pytest.fixture(scope="module")
def api() -> Iterator[Upstream]:
    with upstream() as server:
        yield server


@pytest.mark.parametrize("proxy", PROXIES, ids=str)
def test_a_rolling_restart_of_two_replicas_loses_no_request(proxy: Proxy, pair: tuple[SkyAuth, SkyAuth], api: Upstream) -> None:
    first, second = pair
    first.console("create_account", name=f"rolling-{proxy}", role="user")
    token = bearer(first.console("issue", account=f"rolling-{proxy}"))
    with (
        running(proxy, skyauth=first.port, replica=second.port, upstream=api.port, billing=api.port, mark="2") as port,
        load(port, get("/v1/things", token)) as clients,
    ):
        wait_until(lambda: clients.seen["200"] > 50, "requests pass")
        for _ in range(ROUNDS):
            for server in pair:
                server.stop()
                time.sleep(1)
                server.start(drain=DRAIN)
                wait_until(lambda server=server: ask(server.port, "/readyz").status == 200, "the replica is ready")
                time.sleep(2)  # for the check of the proxy
    assert not clients.failed
    assert clients.seen["200"] > 200
