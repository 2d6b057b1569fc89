"""A browser in front of a protected API: sign-in, return and denial pages, through the shipped Caddyfile."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.browser.conftest import PASSWORD, Watched
from tests.http_client import HOST
from tests.requirements import need_program
from tests.servers import ROOT, SkyAuth, directory, environment, free_port, skyauth_server, start
from tests.upstream import Upstream, upstream

pytestmark = [pytest.mark.browser, pytest.mark.sqlite]


@contextmanager
def gateway(port: int, skyauth: SkyAuth, behind: Upstream) -> Iterator[None]:
    """Run the shipped Caddyfile on this port, with the lines `#s|` as the guide for browsers says."""
    shipped = (ROOT / "deploy" / "proxies" / "caddy" / "Caddyfile").read_text(encoding="utf-8")
    assert "#s| " in shipped
    with directory() as home:
        (home / "Caddyfile").write_text(shipped.replace("#s| ", ""), encoding="utf-8")
        variables = {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "XDG_DATA_HOME": str(home),
            "SKYAUTH": f"{HOST}:{skyauth.port}",
            "UPSTREAM": behind.address,
            "GATEWAY_BIND": HOST,
            "GATEWAY_PORT": str(port),
        }
        program = need_program("caddy", hint="pip install -r requirements-gateway.txt")
        command = [program, "run", "--adapter", "caddyfile", "--config", str(home / "Caddyfile")]
        running = start(command, home / "caddy.log", environment(**variables))
        try:
            running.wait_for(port)
            yield
        finally:
            running.end()


@pytest.fixture
def behind() -> Iterator[Upstream]:
    """The protected API."""
    with upstream() as server:
        yield server


@pytest.fixture
def skyauth(behind: Upstream) -> Iterator[SkyAuth]:
    """SkyAuth in redirect mode with alice and vera in it, whose pages are on the gateway's own origin."""
    port = free_port()
    with skyauth_server(PUBLIC_URL=f"http://{HOST}:{port}", AUTH_REDIRECT="true") as server, gateway(port, server, behind):
        server.console("load_pack", name="skypilot")
        server.console("create_user", name="alice@example.com", role="admin", password=PASSWORD)
        server.console("create_user", name="vera@example.com", role="viewer", password=PASSWORD)
        yield server


@pytest.fixture
def site(skyauth: SkyAuth) -> str:
    """The origin of the gateway."""
    return skyauth.environment["PUBLIC_URL"]


def sign_in(watched: Watched, name: str, password: str = PASSWORD) -> None:
    """Fill in the sign-in form and submit it."""
    watched.page.fill("#id_username", name)
    watched.page.fill("#id_password", password)
    watched.press("Sign in")


def unexpected_complaints(watched: Watched) -> list[str]:
    """Return the browser's errors except those about the expected 401 and 403."""
    return [text for text in watched.complaints if "the server responded with a status of 40" not in text]


def test_vera_signs_in_is_denied_with_a_reason_and_alice_signs_in_instead(watched: Watched, behind: Upstream, site: str) -> None:
    page = watched.page
    page.goto(f"{site}/api/v1/things?a=b%20c&d=%26")
    assert page.url == f"{site}/sign-in?next=%2Fapi%2Fv1%2Fthings%3Fa%3Db%2520c%26d%3D%2526"
    assert behind.arrived == []

    sign_in(watched, "vera@example.com", "wrong")
    assert "Incorrect username or password" in watched.text()
    sign_in(watched, "vera@example.com")
    assert page.url == f"{site}/api/v1/things?a=b%20c&d=%26"
    arrived = behind.arrived[-1]
    assert arrived.target == "/api/v1/things?a=b%20c&d=%26"
    assert arrived.all("X-Auth-Request-Email") == ["vera@example.com"]
    assert "skyauth" not in str(arrived.all("Cookie")), "the session cookie must not reach the upstream"

    before = len(behind.arrived)
    response = page.goto(f"{site}/users/export")
    assert response is not None
    assert response.status == 403
    for words in ("not allowed", "upstream:admin", "vera@example.com, with the role viewer", "GET 127.0.0.1", "admin"):
        assert words in watched.text()
    assert page.locator(".id").inner_text() == response.headers["x-skyauth-decision"]
    assert page.evaluate("getComputedStyle(document.querySelector('main')).borderRadius") == "8px", "the style sheet is loaded"
    assert len(behind.arrived) == before

    page.get_by_role("link", name="sign in as another user").click()
    assert "You are signed in as vera@example.com with the role viewer." in watched.text()
    watched.press("Sign out")
    page.goto(f"{site}/users/export")
    sign_in(watched, "alice@example.com")
    assert page.url == f"{site}/users/export"
    assert behind.arrived[-1].all("X-Auth-Request-Email") == ["alice@example.com"]
    assert unexpected_complaints(watched) == []
    assert [address for address in watched.addresses if not address.startswith((f"{site}/", "data:"))] == []


def test_a_script_receives_json_and_no_redirect(watched: Watched, site: str) -> None:
    page = watched.page
    # Without cookies the browser would ask for a Basic password in a dialog of its own, and wait; `omit` sends neither.
    ask = """([path, credentials]) => fetch(path, {credentials, headers: {Accept: 'text/html'}})
        .then(answer => [answer.status, answer.redirected, answer.headers.get('content-type')])"""
    page.goto(f"{site}/api/v1/things")
    sign_in(watched, "vera@example.com")
    assert page.evaluate(ask, ["/users/export", "include"]) == [403, False, "application/problem+json"]
    assert page.evaluate(ask, ["/api/v1/things", "omit"]) == [401, False, "application/problem+json"]


def test_promise_41_a_forged_return_url_redirects_to_home(watched: Watched, site: str) -> None:
    page = watched.page
    for target in ("https://evil.example/", "//evil.example/", "/\\evil.example/", "/%5cevil.example/", "/..//evil.example/"):
        page.context.clear_cookies()
        page.goto(f"{site}/sign-in?next={target}")
        sign_in(watched, "vera@example.com")
        assert page.url == f"{site}/skyauth/"
        assert "vera@example.com" in watched.text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_scrolls_horizontally_on_a_phone(watched: Watched, site: str, scheme: str) -> None:
    page = watched.page
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": 320, "height": 640})
    backs = set()
    page.goto(f"{site}/sign-in")
    backs.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    sign_in(watched, "vera@example.com")
    for path in ("/sign-in", "/users/export", f"/a%2fb/{'long' * 100}"):
        page.goto(site + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, path
        backs.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert backs == {"rgb(244, 246, 248)" if scheme == "light" else "rgb(18, 22, 28)"}


def test_everything_works_without_javascript(watched: Watched, site: str) -> None:
    browser = watched.page.context.browser
    assert browser is not None
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(f"{site}/api/v1/things")
    page.fill("#id_username", "vera@example.com")
    page.fill("#id_password", PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{site}/api/v1/things")
    page.goto(f"{site}/sign-in")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{site}/sign-in")
    assert page.get_by_role("button", name="Sign in").count() == 1
