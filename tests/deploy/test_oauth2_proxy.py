"""The real OAuth2 Proxy, started with exactly the arguments that the chart renders, before the rendered gateway and SkyAuth."""

import base64
import re
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import CookieJar
from typing import NamedTuple
from urllib.parse import urlencode

import pytest

from tests.deploy.test_running import gateway
from tests.deploy.value_sets import JOBS, OKTA
from tests.helm import HINT, TOOLS, Object, container, plain_environment, template
from tests.http_client import HOST, ask, bearer
from tests.requirements import missing
from tests.servers import SkyAuth, directory, environment, free_port, skyauth_server, start, wait_until
from tests.sso import identity_provider
from tests.upstream import Upstream, upstream

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("helm"), pytest.mark.sqlite]

BROWSER = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}
FORGED = [("X-Forwarded-Email", "nina@example.com"), ("X-Auth-Request-Email", "nina@example.com")]


class Stack(NamedTuple):
    """The running pod: the port of OAuth2 Proxy, SkyAuth and the API."""

    port: int
    skyauth: SkyAuth
    api: Upstream


class Browser:
    """Keeps cookies and follows redirects."""

    def __init__(self) -> None:
        self.cookies = CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def open(self, url: str, form: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Return the status, the last URL and the page."""
        data = urlencode(form).encode() if form else None
        try:
            with self._opener.open(urllib.request.Request(url, data, BROWSER), timeout=30) as response:  # noqa: S310
                return response.status, response.url, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.url, error.read().decode()


def program() -> str:
    found = sorted(TOOLS.glob("oauth2-proxy-*/oauth2-proxy"))
    return str(found[-1]) if found else missing(f"needs OAuth2 Proxy: {HINT}")


@contextmanager
def oauth2_proxy(objects: list[Object], port: int, behind: int) -> Iterator[None]:
    """Run OAuth2 Proxy with the rendered arguments on this port."""
    arguments = [
        argument.replace("0.0.0.0:4180", f"{HOST}:{port}").replace("127.0.0.1:8080", f"{HOST}:{behind}")
        for argument in container(objects, "oauth2-proxy")["args"]
    ]
    command = [program(), *arguments]
    assert f"--upstream=http://{HOST}:{behind}/" in command
    values = {
        "OAUTH2_PROXY_CLIENT_ID": "id",
        "OAUTH2_PROXY_CLIENT_SECRET": "secret",
        "OAUTH2_PROXY_COOKIE_SECRET": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }
    assert set(values) == {one["name"] for one in container(objects, "oauth2-proxy")["env"]}
    with directory() as home:
        running = start(command, home / "log", environment(**values))
        try:
            running.wait_for(port)
            wait_until(lambda: ask(port, "/ready").status == 200, "OAuth2 Proxy is ready")
            yield
        finally:
            running.end()


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    program()
    port = free_port()
    with identity_provider() as issuer, upstream() as api:
        okta = {**OKTA, "oidc-issuer-url": issuer, "email-domain": "example.com"}
        objects = template({**JOBS, "publicUrl": f"http://{HOST}:{port}", "auth": {"oauth": okta}}).objects
        settings = plain_environment(container(objects, "skyauth"))
        del settings["DATA_DIR"]
        with (
            skyauth_server(**settings) as skyauth,
            gateway(objects, skyauth.port, api.port) as behind,
            oauth2_proxy(objects, port, behind),
        ):
            yield Stack(port, skyauth, api)


def test_a_browser_is_sent_to_the_provider_and_back_to_the_api(stack: Stack) -> None:
    browser = Browser()
    status, url, _ = browser.open(f"http://{HOST}:{stack.port}/things?x=1")
    assert (status, "/oauth2/authorize?" in url) == (200, True)
    status, url, _ = browser.open(url, {"sub": "nina@example.com"})
    assert (status, url) == (200, f"http://{HOST}:{stack.port}/things?x=1")
    arrived = stack.api.arrived[-1]
    assert arrived.all("X-Auth-Request-Email") == ["nina@example.com"]
    assert arrived.all("X-Auth-Request-Role") == ["admin"]
    assert "_oauth2_proxy" in {cookie.name for cookie in browser.cookies}
    assert "_oauth2_proxy" not in str(arrived.headers), "the API cannot act as the user at OAuth2 Proxy"
    status, _, page = browser.open(f"http://{HOST}:{stack.port}/skyauth/")
    assert status == 200
    assert "nina@example.com" in page
    browser.open(f"http://{HOST}:{stack.port}/oauth2/sign_out")
    assert "_oauth2_proxy" not in {cookie.name for cookie in browser.cookies}


def test_another_domain_cannot_sign_in(stack: Stack) -> None:
    browser = Browser()
    _, url, _ = browser.open(f"http://{HOST}:{stack.port}/things")
    assert browser.open(url, {"sub": "eve@other.example"})[0] == 403


def test_a_forged_identity_is_refused_with_and_without_a_token(stack: Stack) -> None:
    assert ask(stack.port, "/things", FORGED).status == 401
    stack.skyauth.console("create_account", name="robot", role="user")
    token = bearer(stack.skyauth.console("issue", account="robot"))
    assert ask(stack.port, "/things", [token, *FORGED]).status == 200
    [user] = stack.api.arrived[-1].all("X-Auth-Request-User")
    assert re.fullmatch("sa-[0-9a-f]{16}", user)
    assert stack.api.arrived[-1].all("Authorization") == []


def test_it_is_the_version_that_the_chart_runs() -> None:
    image = container(template({"auth": {"oauth": OKTA}}).objects, "oauth2-proxy")["image"]
    assert f"/oauth2-proxy-{image.rpartition(':v')[2]}/" in program()
