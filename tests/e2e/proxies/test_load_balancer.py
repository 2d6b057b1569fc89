"""Behind a load balancer: with the marked lines of each shipped file, SkyAuth and the API receive the client's address."""

from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from itertools import count

import pytest

from tests.e2e.proxies.conftest import Ground
from tests.http_client import HOST, ask, bearer
from tests.proxies import LOAD_BALANCER, PROXIES, Proxy, balanced, running
from tests.servers import SkyAuth
from tests.upstream import Arrived

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("proxies"), pytest.mark.sqlite]

FORGED = "203.0.113.66"
NUMBERS = count(1)  # each client's address is new: the audit log records a repeated refusal once


@pytest.fixture(scope="module", params=PROXIES, ids=str)
def proxy(request: pytest.FixtureRequest) -> Proxy:
    """Each proxy in turn."""
    return request.param


@pytest.fixture(scope="module")
def ports(ground: Ground) -> dict[str, int]:
    return {"skyauth": ground.skyauth.port, "upstream": ground.upstream.port, "billing": ground.billing.port}


@pytest.fixture(scope="module")
def forwarding(proxy: Proxy, ports: dict[str, int]) -> Iterator[int]:
    """The proxy behind a load balancer that sends X-Forwarded-For."""
    with running(proxy, **ports, mark="f") as port:
        yield port


@pytest.fixture(scope="module")
def prefixing(proxy: Proxy, ports: dict[str, int]) -> Iterator[int]:
    """The proxy behind a load balancer that sends the PROXY protocol."""
    with running(proxy, **ports, mark="p") as port:
        yield port


def refused(
    skyauth: SkyAuth, port: int, mark: str, client: str, *headers: tuple[str, str], source: str = LOAD_BALANCER
) -> list[str]:
    """Send a bad token, and return the client's addresses that SkyAuth recorded."""
    before = len(skyauth.console("refusals"))
    with suppress(OSError, HTTPException):
        assert balanced(port, mark, client, bearer("sky_bad"), *headers, source=source).status in {400, 401}
    return [row["peer"] for row in skyauth.console("refusals")[before:]]


def allowed(ground: Ground, port: int, mark: str, client: str, *headers: tuple[str, str | bytes]) -> Arrived:
    """Send a good token, and return what reached the API."""
    assert balanced(port, mark, client, bearer(ground.reader), *headers).status == 200
    return ground.upstream.arrived[-1]


@pytest.mark.parametrize("form", ["198.51.100.{}", "198.51.100.{}:51234", "2001:db8::{}", "[2001:db8::{}]:51234"])
def test_the_last_address_of_x_forwarded_for_is_the_clients(proxy: Proxy, ground: Ground, forwarding: int, form: str) -> None:
    """What stands before it, the client sent. Azure's gateways add the port."""
    written = form.format(next(NUMBERS))
    client = written.replace(":51234", "").strip("[]")
    assert refused(ground.skyauth, forwarding, "f", f"{FORGED}, {written}") == [client]
    arrived = allowed(ground, forwarding, "f", f"{FORGED}, {written}")
    chain = f"{FORGED}, {written}, 127.0.0.3"
    assert arrived.all("X-Forwarded-For") == [chain if proxy.differences.forwards_chain else client]


def test_a_second_line_of_x_forwarded_for_counts_as_the_rest_of_the_first(ground: Ground, forwarding: int) -> None:
    client = f"198.51.100.{next(NUMBERS)}"
    assert refused(ground.skyauth, forwarding, "f", FORGED, ("X-Forwarded-For", client)) == [client]


@pytest.mark.parametrize(("sent", "told"), [("https", "https"), ("http", "http"), ("", "http")])
def test_x_forwarded_proto_of_the_load_balancer_is_the_scheme(ground: Ground, forwarding: int, sent: str, told: str) -> None:
    arrived = allowed(ground, forwarding, "f", "198.51.100.7", *([("X-Forwarded-Proto", sent)] if sent else []))
    assert arrived.all("X-Forwarded-Proto") == [told]


def test_nobody_else_names_a_client(proxy: Proxy, ground: Ground, forwarding: int, prefixing: int) -> None:
    for port, mark in ((forwarding, "f"), (prefixing, "p")):
        client = f"198.51.100.{next(NUMBERS)}"
        assert set(refused(ground.skyauth, port, mark, client, source=HOST)) <= {HOST}, mark
        try:
            status = ask(port, "/").status
        except (OSError, HTTPException):
            status = 0
        assert status == (0 if mark in proxy.differences.only_balanced else 401)


@pytest.mark.parametrize("form", ["198.51.100.{}", "2001:db8::{}"])
def test_the_proxy_protocol_names_the_client(ground: Ground, prefixing: int, form: str) -> None:
    client = form.format(next(NUMBERS))
    assert refused(ground.skyauth, prefixing, "p", client) == [client]
    arrived = allowed(ground, prefixing, "p", client, ("X-Forwarded-For", FORGED), ("X-Forwarded-Proto", "https"))
    assert (arrived.all("X-Forwarded-For"), arrived.all("X-Forwarded-Proto")) == ([client], ["http"])


@pytest.mark.parametrize(
    "name", ["X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-Host", "X-Original-URI", "X-Real-IP", "X-Forwarded-Prefix"]
)
def test_no_other_forwarding_header_is_accepted_from_a_load_balancer(ground: Ground, forwarding: int, name: str) -> None:
    """A load balancer passes on what its clients send."""
    arrived = allowed(ground, forwarding, "f", "198.51.100.7", (name, "evil"))
    assert "evil" not in repr(arrived.headers)
    post = [bearer(ground.reader), ("X-Forwarded-For", "198.51.100.7"), ("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", "/")]
    assert balanced(forwarding, "f", "198.51.100.7", *post, method="POST").status == 403
