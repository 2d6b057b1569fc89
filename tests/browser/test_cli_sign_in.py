"""CLI logins in a real browser: by polling, by a local port, by copying the token; and without JavaScript."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PASSWORD, Watched
from tests.http_client import ask
from tests.servers import SkyAuth, free_port, skyauth_server

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("cli-sign-in"), pytest.mark.sqlite]
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
ADDRESS = f"/auth/authorize?code_challenge={CHALLENGE}"


@pytest.fixture(scope="module")
def skyauth() -> Iterator[SkyAuth]:
    """A running SkyAuth with the user alice, shared by the tests."""
    with skyauth_server() as server:
        server.console("create_user", name="alice@example.com", role="admin", password=PASSWORD)
        yield server


@contextmanager
def listening_cli() -> Iterator[tuple[int, list[bytes]]]:
    """Listen as the CLI does, and yield the port and the bodies that it receives."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Log nothing."""

    server = HTTPServer(("localhost", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_port, bodies
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def sign_in(page: Page) -> None:
    """Fill in the sign-in form."""
    page.get_by_label("Name").fill("alice@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_load_state("networkidle")


def user_of(skyauth: SkyAuth, token: str) -> Any:
    """Return the name of the user that this CLI token authenticates."""
    cookies = json.loads(base64.b64decode(token))["cookies"]
    sent = "; ".join(f"{name}={value}" for name, value in cookies.items())
    return ask(skyauth.port, "/api/health", [("Cookie", sent)]).json["user"]["name"]


def poll(skyauth: SkyAuth) -> Any:
    return ask(skyauth.port, f"/api/v1/auth/token?code_verifier={VERIFIER}")


def without_scripts(watched: Watched) -> Page:
    browser = watched.page.context.browser
    assert browser is not None
    return browser.new_context(java_script_enabled=False).new_page()


def by_polling(page: Page, skyauth: SkyAuth) -> None:
    page.goto(skyauth.address + ADDRESS)
    sign_in(page)
    expect(page.locator("#compare")).to_have_text(CHALLENGE[-8:])
    assert poll(skyauth).status == 404
    page.get_by_role("button", name="Authorize CLI login", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("Return to your terminal")
    answer = poll(skyauth)
    assert answer.status == 200
    assert user_of(skyauth, answer.json["token"]) == "alice@example.com"
    assert poll(skyauth).status == 404


def by_copying(page: Page, skyauth: SkyAuth) -> None:
    page.goto(skyauth.address + "/token")
    sign_in(page)
    page.get_by_role("button", name="Authorize CLI login", exact=True).click()
    token = page.locator("#token-box").inner_text()
    assert user_of(skyauth, token) == "alice@example.com"
    page.go_back()
    page.get_by_role("button", name="Authorize CLI login", exact=True).click()
    expect(page.get_by_role("alert").or_(page.locator("#token-box"))).to_be_visible()
    assert page.locator("#token-box").count() == 0 or page.locator("#token-box").inner_text() != token


def test_promise_39_a_user_consents_and_the_polling_cli_is_signed_in(watched: Watched) -> None:
    by_polling(watched.page, watched.skyauth)
    assert watched.complaints == []
    assert watched.strangers() == []


def test_promise_37_the_token_reaches_the_local_port_only(watched: Watched) -> None:
    page = watched.page
    with listening_cli() as (port, bodies):
        page.goto(f"{watched.skyauth.address}/token?local_port={port}")
        sign_in(page)
        expect(page.locator("#compare")).to_have_text(f"localhost:{port}")
        time.sleep(0.5)
        assert bodies == []
        watched.press("Authorize CLI login")
        expect(page.get_by_role("status")).to_contain_text("sent to your terminal")
        token = page.locator("#token-box").inner_text()
        assert bodies == [token.encode()]
    assert user_of(watched.skyauth, token) == "alice@example.com"
    assert watched.complaints == []
    assert watched.strangers() == [f"http://localhost:{port}/"]


def test_promise_37_the_page_cannot_connect_to_another_port(watched: Watched) -> None:
    with listening_cli() as (port, _), listening_cli() as (other, bodies):
        watched.page.goto(f"{watched.skyauth.address}/token?local_port={port}")
        sign_in(watched.page)
        watched.press("Authorize CLI login")
        refused = watched.page.evaluate(f"fetch('http://localhost:{other}', {{mode: 'no-cors'}}).then(() => false, () => true)")
        assert refused
        assert bodies == []


def test_the_token_can_be_copied_if_no_cli_listens(watched: Watched) -> None:
    watched.page.goto(f"{watched.skyauth.address}/token?local_port={free_port()}")
    sign_in(watched.page)
    watched.press("Authorize CLI login")
    expect(watched.page.get_by_role("status")).to_contain_text("cannot reach your terminal. If your terminal")
    assert user_of(watched.skyauth, watched.page.locator("#token-box").inner_text()) == "alice@example.com"


def test_a_user_copies_the_token(watched: Watched) -> None:
    by_copying(watched.page, watched.skyauth)
    assert [text for text in watched.complaints if "409" not in text] == []
    assert watched.strangers() == []


def test_consenting_and_copying_work_without_javascript(watched: Watched) -> None:
    by_polling(without_scripts(watched), watched.skyauth)
    by_copying(without_scripts(watched), watched.skyauth)
