"""Pages of another port or of a sibling host, in a real browser: the cookie goes with their requests, and they gain nothing."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.proxies.conftest import ADMIN, Gateway
from tests.factories import PASSWORD
from tests.http_client import HOST, bearer, session_key
from tests.other_origins import SITE, chromium, connects, read, submit, write

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.xdist_group("proxies"), pytest.mark.sqlite]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser."""
    with chromium() as program:
        yield program


@pytest.fixture(params=["another port", "a sibling host"])
def hosts(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The host of the gateway, and that of a page of the same site."""
    return (HOST, HOST) if request.param == "another port" else (f"api.{SITE}", f"notes.{SITE}")


@pytest.fixture(params=["session", "password"])
def page(request: pytest.FixtureRequest, browser: Browser, gateway: Gateway, hosts: tuple[str, str]) -> Iterator[Page]:
    """A page of the gateway's own origin, whose visitor has signed in."""
    own = f"{hosts[0]}:{gateway.port}"
    context = browser.new_context()
    page = context.new_page()
    if request.param == "session":
        key = session_key(gateway.ground.skyauth.port, ADMIN, PASSWORD)
        context.add_cookies([{"name": "skyauth", "value": key, "url": f"http://{own}"}])
    else:
        page.goto(f"http://{ADMIN.replace('@', '%40')}:{PASSWORD.replace(' ', '%20')}@{own}/")
    page.goto(f"http://{own}/")
    yield page
    context.close()


def test_promise_52_a_page_of_another_origin_neither_reads_nor_writes_nor_opens_a_websocket(
    gateway: Gateway, hosts: tuple[str, str], page: Page
) -> None:
    own = f"http://{hosts[0]}:{gateway.port}"
    arrived = gateway.upstream.arrived
    start = len(arrived)
    assert read(page, f"{own}/own") == 200
    write(page, f"{own}/own")
    assert connects(page, f"{own}/own")
    assert [one.method for one in arrived[start:] if one.target == "/own"] == ["GET", "POST", "GET"]

    page.goto(f"http://{hosts[1]}:{gateway.ground.billing.port}/")  # an upstream without a gateway: any page of the site
    start = len(arrived)
    assert read(page, f"{own}/foreign") == 0
    write(page, f"{own}/foreign")
    assert not connects(page, f"{own}/foreign")
    assert submit(page, f"{own}/foreign") == 403
    reached = [(one.method, one.all("Upgrade")) for one in arrived[start:] if one.target == "/foreign"]
    assert reached == [("GET", [])], "the credential went with the request that cannot be read, and with no other"


def test_no_permission_of_the_upstream_to_read_its_responses_reaches_a_browser(gateway: Gateway, reader: str) -> None:
    reply = gateway.ask(bearer(reader), ("Origin", "https://notes.example.com"))
    assert reply.status == 200
    assert gateway.upstream.arrived[-1].all("Origin") == ["https://notes.example.com"], "the upstream gave it"
    assert not [name for name, _ in reply.headers if name.lower().startswith("access-control-")]


def test_a_preflight_has_no_credential_and_is_401(gateway: Gateway) -> None:
    asked = [("Origin", "https://notes.example.com"), ("Access-Control-Request-Method", "PUT")]
    assert gateway.refused(*asked, method="OPTIONS").status == 401
