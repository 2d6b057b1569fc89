"""A real browser and a real SkyAuth server. Errors of the browser and the requested URLs are collected."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, StorageState, sync_playwright

from tests.requirements import need_program
from tests.servers import SkyAuth, skyauth_server

PASSWORD = "correct horse battery staple"
CAST = {"alice@example.com": "admin", "bob@example.com": "user", "vera@example.com": "viewer"}
# The browser can report a violation to the page only, so the page logs it to the console.
_LOG_CSP = "addEventListener('securitypolicyviolation', e => console.error('CSP', e.violatedDirective, e.blockedURI, e.sample))"

Visit = Callable[..., "Watched"]


@dataclass
class Watched:
    """A page, with the errors and requests of the browser."""

    page: Page
    skyauth: SkyAuth
    complaints: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        """Open a page of SkyAuth; fail unless the status is 200."""
        response = self.page.goto(self.skyauth.address + path, wait_until="networkidle")
        assert response is not None
        assert response.status == 200, f"{path}: {response.status}"

    def press(self, name: str) -> None:
        """Click the button with this name, and wait for the next page."""
        self.page.get_by_role("button", name=name, exact=True).click()
        self.page.wait_for_load_state("networkidle")

    def text(self) -> str:
        """Return the text of the page."""
        return self.page.locator("body").inner_text()

    def strangers(self) -> list[str]:
        """Return the requested URLs on other hosts."""
        return [address for address in self.addresses if not address.startswith((self.skyauth.address + "/", "data:"))]


@pytest.fixture
def skyauth(chromium: Browser) -> Iterator[SkyAuth]:
    """A running SkyAuth with alice in it."""
    with skyauth_server() as server:
        server.console("create_user", name="alice@example.com", role="admin", password=PASSWORD)
        yield server


def watch(browser: Browser, skyauth: SkyAuth, **context: Any) -> Watched:
    """Return a new page in its own browser context, with errors and requests recorded."""
    page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}).new_page()
    watched = Watched(page, skyauth)

    def hear(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            watched.complaints.append(f"{page.url}: {message.text}")

    def see(request: Request) -> None:
        watched.addresses.append(request.url)

    page.on("console", hear)
    page.on("pageerror", lambda error: watched.complaints.append(f"{page.url}: {error}"))
    page.on("request", see)
    page.add_init_script(_LOG_CSP)
    return watched


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """A headless Chromium."""
    program = need_program("chromium", "chromium-browser", "google-chrome", hint="install Debian's chromium package")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def watched(skyauth: SkyAuth, chromium: Browser) -> Iterator[Watched]:
    """A page with errors and requests recorded."""
    watched = watch(chromium, skyauth)
    yield watched
    watched.page.context.close()


@pytest.fixture(scope="package")
def house(chromium: Browser) -> Iterator[SkyAuth]:
    """A running SkyAuth with the users of CAST, shared by tests that create their own users to change."""
    with skyauth_server() as server:
        for name, role in CAST.items():
            server.console("create_user", name=name, role=role, password=PASSWORD)
        yield server


@pytest.fixture(scope="package")
def _signed_in() -> dict[str, StorageState]:
    """The cookies of signed-in users, by name."""
    return {}


@pytest.fixture
def visit(house: SkyAuth, chromium: Browser, _signed_in: dict[str, StorageState]) -> Iterator[Visit]:
    """Opens a page for a user: `visit("bob@example.com", java_script_enabled=False)`. Without a name, nobody is signed in.

    Users sign in once for all tests. A test that signs a user out uses `sign_in` with a user of its own.
    """
    opened: list[Watched] = []

    def open_for(name: str = "", **context: Any) -> Watched:
        if name and name not in _signed_in:
            page = chromium.new_context().new_page()
            page.goto(f"{house.address}/sign-in")
            sign_in(page, name)
            _signed_in[name] = page.context.storage_state()
            page.context.close()
        watched = watch(chromium, house, **({"storage_state": _signed_in[name]} if name else {}), **context)
        opened.append(watched)
        return watched

    yield open_for
    for watched in opened:
        watched.page.context.close()


def sign_in(page: Page, name: str, password: str = PASSWORD) -> None:
    """Fill in the sign-in form and submit it."""
    page.fill("#id_username", name)
    page.fill("#id_password", password)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_load_state("networkidle")
    assert "/sign-in" not in page.url, page.locator("body").inner_text()
