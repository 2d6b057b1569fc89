"""Pages of another port of the same host, in a real browser: an administrator's cookie goes with their requests to the server."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.e2e.skypilot.conftest import ALICE, Gateway
from tests.factories import PASSWORD
from tests.http_client import bearer, session_key
from tests.other_origins import chromium, connects, read, submit, write
from tests.upstream import upstream

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.xdist_group("skypilot"), pytest.mark.sqlite]

SOCKET = "/kubernetes-pod-ssh-proxy?cluster_name=nowhere&client_version=1"


@pytest.fixture
def page(gateway: Gateway) -> Iterator[Page]:
    """A page of the gateway's own origin, whose visitor is Alice."""
    key = session_key(gateway.ground.skyauth.port, ALICE, PASSWORD)
    with chromium() as browser:
        context = browser.new_context()
        context.add_cookies([{"name": "skyauth", "value": key, "url": gateway.address}])
        page = context.new_page()
        page.goto(f"{gateway.address}/users/me/workspace")
        yield page


def requests(seen: bytearray) -> list[tuple[str, str]]:
    """Return method and target of each request among these bytes, except those of a browser for its own use."""
    found = [(method.decode(), target.decode()) for method, target in re.findall(rb"(GET|POST) (\S+) HTTP/1\.1\r\n", seen)]
    return [one for one in found if one[1] != "/favicon.ico"]


def test_promise_52_a_page_of_another_origin_cannot_use_an_administrators_cookie_at_the_server(
    gateway: Gateway, page: Page
) -> None:
    own = gateway.address
    with gateway.ground.serving.listening_in() as seen:
        assert read(page, f"{own}/users/me/workspace") == 200
        write(page, f"{own}/api/cancel")
        assert connects(page, own + SOCKET)
        reached = requests(seen)
    assert reached == [("GET", "/users/me/workspace"), ("POST", "/api/cancel"), ("GET", SOCKET)]

    with upstream() as foreign, gateway.ground.serving.listening_in() as seen:
        page.goto(foreign.address)
        assert read(page, f"{own}/users/me/workspace") == 0
        write(page, f"{own}/api/cancel")
        assert not connects(page, own + SOCKET)
        assert submit(page, f"{own}/api/cancel") == 403
        reached = requests(seen)
    assert reached == [("GET", "/users/me/workspace")], "which it could not read"


def test_promise_52_nor_at_the_endpoints_that_skyauth_serves_itself(gateway: Gateway, page: Page) -> None:
    own = gateway.address
    assert read(page, f"{own}/users") == 200
    with upstream() as foreign:
        page.goto(foreign.address)
        assert read(page, f"{own}/users") == 0
        assert submit(page, f"{own}/users/create") == 403


def test_the_server_lets_every_origin_read_and_the_gateway_does_not_say_so(gateway: Gateway, pipeline: str) -> None:
    asked = ("Origin", "https://notes.example.com")
    server = gateway.ground.server.ask("/users/me/workspace", ("X-Auth-Request-Email", ALICE), asked)
    assert server.header("Access-Control-Allow-Origin") == "https://notes.example.com"
    assert server.header("Access-Control-Allow-Credentials") == "true"
    for target in ("/users/me/workspace", "/users/role", "/api/health", "/nowhere"):
        reply = gateway.ask(bearer(pipeline), asked, target=target)
        assert not [name for name, _ in reply.headers if name.lower().startswith("access-control-")]
