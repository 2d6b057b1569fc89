"""People who log in at an identity provider: a real one, a real auth proxy, a real browser, the real CLI and a real server."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.e2e.skypilot.conftest import Ground
from tests.http_client import ask, bearer
from tests.requirements import need_program
from tests.servers import free_port
from tests.sky import AUTH_PROXY, Sky
from tests.sso import SESSION_COOKIE, auth_proxy, identity_provider

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("skypilot"), pytest.mark.sqlite]

DAVE = "dave@example.com"


@pytest.fixture(scope="module", params=["caddy", "nginx"])
def entrance(request: pytest.FixtureRequest, ground: Ground) -> Iterator[str]:
    """The address of the auth proxy in front of each gateway: the one that people know."""
    port = free_port()
    with (
        identity_provider(dave=DAVE) as provider,
        auth_proxy(provider, port=port, behind=ground.gateways[request.param], source=AUTH_PROXY) as address,
    ):
        yield address


@pytest.fixture
def page() -> Iterator[Page]:
    """A page in a headless Chromium, whose owner has not logged in anywhere."""
    program = need_program("chromium", "chromium-browser", "google-chrome", hint="install Debian's chromium package")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser.new_page()
        browser.close()


def test_the_cli_signs_in_by_the_identity_provider_and_carries_the_auth_proxys_cookies(
    ground: Ground, entrance: str, page: Page, sky: Sky
) -> None:
    ground.server.forget(DAVE)
    ground.skyauth.console("forget_told_roles")
    with sky.at_a_terminal("api", "login", "-e", entrance) as typing:
        typing.wait_for("ctrl+c to fall back")
        [address] = sky.opened
        assert address.startswith(f"{entrance}/auth/authorize?code_challenge=")
        page.goto(address)
        assert not page.url.startswith(entrance), "the auth proxy sends people to the identity provider first"
        page.fill("input[name=sub]", "dave")
        page.get_by_role("button", name="Authorize").click()  # the provider's own
        page.wait_for_url(address)
        assert DAVE in page.inner_text("main")
        assert address[-8:] in page.inner_text("main")
        page.get_by_role("button", name="Authorize CLI login").click()
        page.wait_for_selector("text=Return to your terminal")
        done = typing.ended()
    assert done.code == 0, done.output
    assert f"Logged into SkyPilot API server at: {entrance}" in done.output
    assert set(sky.cookies) == {SESSION_COOKIE}
    assert f"User: {DAVE}" in sky("api", "info").output
    assert sky("status").code == 0
    assert ground.server.users()[DAVE] == "viewer", "by SkyAuth's default role, though the server's own is admin"


def test_a_machine_passes_the_auth_proxy_with_its_token_and_nobody_else_does(
    ground: Ground, entrance: str, pipeline: str, sky: Sky
) -> None:
    done = sky("api", "login", "-e", entrance, "--token", pipeline)
    assert done.code == 0, done.output
    assert sky("status").code == 0
    port = int(entrance.rpartition(":")[2])
    assert ask(port, "/users", [bearer(pipeline)]).status == 200
    for headers in ([], [("X-Auth-Request-Email", "alice@example.com")], [("Cookie", f"{SESSION_COOKIE}=forged")]):
        assert ask(port, "/users", headers).status == 302, "to the identity provider"
    for headers in ([bearer("sky_x")], [bearer("x"), ("X-Auth-Request-Email", "alice@example.com")]):
        assert ask(port, "/users", headers).status == 401
