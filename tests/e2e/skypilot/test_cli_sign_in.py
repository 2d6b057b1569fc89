"""The released `sky` signs in by a browser, through the gateway: by asking, by its own port, by pasting, and again.

The browser is a real one, in which bob has signed in with his password, or whom an auth proxy signed in.
"""

import base64
import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from accounts.identifiers import user_uid
from tests.e2e.skypilot.conftest import BOB, Gateway, Ground
from tests.factories import PASSWORD
from tests.http_client import Reply, ask
from tests.requirements import need_program
from tests.sky import AUTH_PROXY, Sky, Typing

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("skypilot"), pytest.mark.sqlite]

IN = "Logged into SkyPilot API server"


@pytest.fixture
def caddy(ground: Ground) -> Gateway:
    """The gateway that is SkyAuth's own origin."""
    return Gateway("caddy", ground.gateways["caddy"], ground)


@pytest.fixture
def page(caddy: Gateway) -> Iterator[Page]:
    """A page of a browser in which bob has signed in."""
    program = need_program("chromium", "chromium-browser", "google-chrome", hint="install Debian's chromium package")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        page = browser.new_page()
        page.goto(f"{caddy.address}/sign-in")
        page.get_by_label("Name").fill(BOB)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(BOB)
        yield page
        browser.close()


def authorize(page: Page, address: str) -> None:
    """Do what a person does on the page that the CLI opened."""
    page.goto(address)
    page.get_by_role("button", name="Authorize CLI login", exact=True).click()


def printed(typing: Typing, text: str) -> str:
    """Return the address with this in it that the CLI printed, once it has."""
    return re.findall(rf"http://\S*{re.escape(text)}\S*", typing.wait_for(text))[-1]


def works(sky: Sky, login: str) -> None:
    """Check that the CLI is bob now, for SkyAuth and for the server behind it."""
    assert f"User: {BOB} ({user_uid(BOB)})" in login
    info = sky("api", "info")
    assert info.code == 0
    assert BOB in info.output
    status = sky("status")
    assert status.code == 0, status.output
    assert "No existing clusters" in status.output


def test_by_asking_then_again_and_out(caddy: Gateway, sky: Sky, page: Page) -> None:
    with sky.at_a_terminal("api", "login", "--no-browser", "-e", caddy.address) as typing:
        authorize(page, printed(typing, "code_challenge="))
        expect(page.get_by_role("status")).to_contain_text("Return to your terminal")
        login = typing.ended()
    assert login.code == 0, login.output
    works(sky, login.output)
    first = sky.cookies["skyauth"]
    assert first not in {cookie["value"] for cookie in page.context.cookies()}
    with sky.at_a_terminal("api", "login", "--relogin", "-e", caddy.address) as typing:
        typing.wait_for("ctrl+c to fall back")
        authorize(page, sky.opened[-1])
        again = typing.ended()
    assert again.code == 0, again.output
    assert sky.cookies["skyauth"] != first
    works(sky, again.output)
    out = sky("api", "logout")
    assert out.code == 0, out.output
    assert caddy.address not in sky.config


def test_by_its_own_port_after_ctrl_c(caddy: Gateway, sky: Sky, page: Page) -> None:
    with sky.at_a_terminal("api", "login", "-e", caddy.address) as typing:
        typing.wait_for("ctrl+c to fall back")
        typing.interrupt()
        address = printed(typing, "/token?local_port=")
        authorize(page, address)
        expect(page.get_by_role("status")).to_contain_text("sent to your terminal")
        login = typing.ended()
    assert login.code == 0, login.output
    works(sky, login.output)


def test_by_pasting(caddy: Gateway, sky: Sky, page: Page) -> None:
    with sky.at_a_terminal("api", "login", "-e", caddy.address) as typing:
        typing.wait_for("ctrl+c to fall back")
        typing.interrupt()
        typing.wait_for("/token?local_port=")
        typing.interrupt()
        typing.wait_for("Paste the token")
        authorize(page, f"{caddy.address}/token")
        typing.type(page.locator("#token-box").inner_text() + "\n")
        login = typing.ended()
    assert login.code == 0, login.output
    works(sky, login.output)


def test_promise_14_what_the_person_ends_in_the_browser_ends_for_the_command_line(caddy: Gateway, sky: Sky, page: Page) -> None:
    with sky.at_a_terminal("api", "login", "--no-browser", "-e", caddy.address) as typing:
        authorize(page, printed(typing, "code_challenge="))
        assert typing.ended().code == 0
    caddy.ground.skyauth.console("end_sessions", name=BOB)
    refused = sky("status")
    assert refused.code == 1
    assert f"sky api login -e {caddy.address}" in refused.output


def as_the_proxy_does(gateway: Gateway, target: str, body: str = "", *cookies: str) -> Reply:
    """Send what bob's browser sends through the auth proxy in front of the gateway, which names him."""
    headers = [("X-Auth-Request-Email", BOB), ("Cookie", "; ".join(("_sso=of-the-proxy", *cookies)))]
    if not body:
        return ask(gateway.port, target, headers, source=AUTH_PROXY)
    headers += [("Content-Type", "application/x-www-form-urlencoded"), ("Origin", gateway.address)]
    return ask(gateway.port, target, headers, method="POST", body=body.encode(), source=AUTH_PROXY)


def test_behind_an_auth_proxy_the_command_line_gets_the_proxys_cookies(caddy: Gateway, tmp_path: Path) -> None:
    verifier = "p" * 43
    challenge = base64.urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
    target = f"/auth/authorize?code_challenge={challenge}"
    opened = as_the_proxy_does(caddy, target)
    assert opened.status == 200
    assert "The cookies with which your browser passes the single sign-on" in " ".join(opened.body.decode().split())
    [csrf] = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', opened.body.decode())
    [ours] = [value.split(";")[0] for name, value in opened.headers if name.lower() == "set-cookie"]
    consented = as_the_proxy_does(caddy, target, f"csrfmiddlewaretoken={csrf}", ours, "skyauth=a-session-of-ours")
    assert consented.status == 200, consented.body
    token = ask(caddy.port, f"/api/v1/auth/token?code_verifier={verifier}").json["token"]
    value = json.loads(base64.b64decode(token))
    assert value == {"v": 1, "user": user_uid(BOB), "cookies": {"_sso": "of-the-proxy"}}
