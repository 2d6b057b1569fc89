"""Servers without the header filter: no identity header is trusted there, because no peer is."""

import secrets
import sys
from collections.abc import Iterator

import pytest

from tests.http_client import HOST, ask, basic, bearer
from tests.raw.conftest import SETTINGS
from tests.servers import SkyAuth, environment, free_port, start

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("raw"), pytest.mark.sqlite]

ALICE = "alice@example.com"
CAROL, PASSWORD = "carol@example.com", secrets.token_urlsafe(12)
SPELLINGS = (
    "X-Auth-Request-Email",
    "X_Auth_Request_Email",
    "X.Auth.Request.Email",
    "HTTP_X_AUTH_REQUEST_EMAIL",
    "Remote-User",
    "REMOTE_USER",
)


@pytest.fixture(scope="module", params=["wsgi", "asgi", "forward auth"])
def unfiltered(request: pytest.FixtureRequest, server: SkyAuth) -> Iterator[tuple[str, int]]:
    """Its kind, and the port of a server without the header filter that uses the data of `server`."""
    port = free_port()
    log = server.data / f"{request.param.replace(' ', '-')}.log"
    running = start(
        [sys.executable, "-m", "tests.raw.unfiltered", request.param, str(port)], log, environment(**server.environment)
    )
    try:
        running.wait_for(port)
        yield request.param, port
    finally:
        running.end()


@pytest.fixture(scope="module")
def carol(server: SkyAuth) -> tuple[str, bytes]:
    """The Basic credential of an admin."""
    server.console("create_user", name=CAROL, role="admin", password=PASSWORD)
    return basic(CAROL, PASSWORD)


def admin_page(port: int, *headers: tuple[str, str | bytes]) -> int:
    """Return the status of the admin's front page: 302 to the sign-in page for anonymous clients, 200 for an admin."""
    return ask(port, "/admin/", headers).status


def test_with_the_header_filter_the_header_of_a_trusted_proxy_opens_the_admin(server: SkyAuth) -> None:
    assert SETTINGS["AUTH_USER_HEADER_FORMAT"] == "plaintext"
    assert admin_page(server.port, ("X-Auth-Request-Email", ALICE)) == 200
    assert ask(server.port, "/admin/", [("X-Auth-Request-Email", ALICE)], source="127.0.0.2").status == 302


@pytest.mark.parametrize("name", SPELLINGS)
def test_promise_1_without_the_header_filter_no_header_sets_a_user(unfiltered: tuple[str, int], name: str) -> None:
    kind, port = unfiltered
    expected = 431 if kind == "forward auth" else 302
    assert admin_page(port, (name, ALICE)) == expected


@pytest.mark.parametrize("unfiltered", ["wsgi", "asgi"], indirect=True)
def test_without_the_header_filter_other_credentials_still_authenticate(
    unfiltered: tuple[str, int], carol: tuple[str, bytes]
) -> None:
    _, port = unfiltered
    assert admin_page(port, carol) == 200
    assert admin_page(port, bearer("sky_x"), ("X-Auth-Request-Email", ALICE)) == 401


def test_without_the_header_filter_the_verify_endpoint_allows_nothing(unfiltered: tuple[str, int], token: str) -> None:
    kind, port = unfiltered
    headers = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", HOST), ("X-Forwarded-Uri", "/"), bearer(token)]
    assert ask(port, "/authz/verify", headers).status == (403 if kind == "forward auth" else 404)


def test_without_the_header_filter_no_client_can_choose_its_address(unfiltered: tuple[str, int], server: SkyAuth) -> None:
    _, port = unfiltered
    address = f"192.0.2.{secrets.randbelow(200)}"  # a network that no other test of this server names
    ask(port, "/admin/", [("X-Forwarded-For", address), ("X-Forwarded-Host", "evil.example"), bearer("sky_x")])
    assert address not in {entry["peer"] for entry in server.console("refusals")}
