"""Servers that go round the trust gate: no identity header is ever believed there. Absent gate means untrusted."""

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


@pytest.fixture(scope="module", params=["wsgi", "asgi", "verify line"])
def ungated(request: pytest.FixtureRequest, server: SkyAuth) -> Iterator[tuple[str, int]]:
    """A server without the gate on the data of `server`, and which kind it is."""
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
    """Return the status of the admin's front page: 302 to the login page for strangers, 200 for an admin."""
    return ask(port, "/admin/", headers).status


def test_behind_the_gate_a_trusted_proxys_header_does_open_the_admin(server: SkyAuth) -> None:
    assert SETTINGS["AUTH_USER_HEADER_FORMAT"] == "plaintext"
    assert admin_page(server.port, ("X-Auth-Request-Email", ALICE)) == 200
    assert ask(server.port, "/admin/", [("X-Auth-Request-Email", ALICE)], source="127.0.0.2").status == 302


@pytest.mark.parametrize("name", SPELLINGS)
def test_promise_1_without_the_gate_no_header_names_anybody(ungated: tuple[str, int], name: str) -> None:
    kind, port = ungated
    expected = 431 if kind == "verify line" else 302
    assert admin_page(port, (name, ALICE)) == expected


@pytest.mark.parametrize("ungated", ["wsgi", "asgi"], indirect=True)
def test_without_the_gate_credentials_of_ones_own_still_count(ungated: tuple[str, int], carol: tuple[str, bytes]) -> None:
    _, port = ungated
    assert admin_page(port, carol) == 200
    assert admin_page(port, bearer("sky_x"), ("X-Auth-Request-Email", ALICE)) == 401


def test_without_the_gate_the_verify_endpoint_lets_nothing_through(ungated: tuple[str, int], token: str) -> None:
    kind, port = ungated
    headers = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", HOST), ("X-Forwarded-Uri", "/"), bearer(token)]
    assert ask(port, "/authz/verify", headers).status == (403 if kind == "verify line" else 404)


def test_without_the_gate_nobody_chooses_their_address(ungated: tuple[str, int], server: SkyAuth) -> None:
    _, port = ungated
    mark = f"192.0.2.{secrets.randbelow(200)}"  # a network that no other test of this server names
    ask(port, "/admin/", [("X-Forwarded-For", mark), ("X-Forwarded-Host", "evil.example"), bearer("sky_x")])
    assert mark not in {entry["peer"] for entry in server.console("refusals")}
