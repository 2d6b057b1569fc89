"""A real browser at a real SkyAuth. What the browser complains of is collected, and so is every address it asks."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request, sync_playwright

from tests.needs import need_program
from tests.servers import SkyAuth, skyauth_server

PASSWORD = "correct horse battery staple"
# A violation may be told to the page only, so the page passes it on to the console.
_TELL = "addEventListener('securitypolicyviolation', e => console.error('CSP', e.violatedDirective, e.blockedURI, e.sample))"


@dataclass
class Watched:
    """A page, and what happened on it."""

    page: Page
    skyauth: SkyAuth
    complaints: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        """Open a page of SkyAuth; fail unless it answers 200."""
        response = self.page.goto(self.skyauth.address + path, wait_until="networkidle")
        assert response is not None
        assert response.status == 200, f"{path}: {response.status}"

    def press(self, name: str) -> None:
        """Press the button of that name, and wait for the next page."""
        self.page.get_by_role("button", name=name, exact=True).click()
        self.page.wait_for_load_state("networkidle")

    def text(self) -> str:
        """Return what is to be read on the page."""
        return self.page.locator("body").inner_text()

    def strangers(self) -> list[str]:
        """Return the addresses asked that are not SkyAuth's."""
        return [address for address in self.addresses if not address.startswith((self.skyauth.address + "/", "data:"))]


@pytest.fixture
def skyauth() -> Iterator[SkyAuth]:
    """A running SkyAuth with alice in it."""
    need_program("chromium", "chromium-browser", "google-chrome", hint="install Debian's chromium package")
    with skyauth_server() as server:
        server.console("create_user", name="alice@example.com", role="admin", password=PASSWORD)
        yield server


@pytest.fixture
def watched(skyauth: SkyAuth) -> Iterator[Watched]:
    """A page in a headless Chromium."""
    program = need_program("chromium", "chromium-browser", "google-chrome", hint="install Debian's chromium package")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        watched = Watched(page, skyauth)

        def hear(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"}:
                watched.complaints.append(f"{page.url}: {message.text}")

        def see(request: Request) -> None:
            watched.addresses.append(request.url)

        page.on("console", hear)
        page.on("pageerror", lambda error: watched.complaints.append(f"{page.url}: {error}"))
        page.on("request", see)
        page.add_init_script(_TELL)
        yield watched
        browser.close()
