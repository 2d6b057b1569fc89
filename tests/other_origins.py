"""What a page of another origin can do at a gateway with its visitor's credential, in a real Chromium."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright

from tests.requirements import need_program

SITE = "example.test"  # a browser started here finds every host below it on the loopback address

_READ = "async url => { try { return (await fetch(url, {credentials: 'include'})).status } catch { return 0 } }"
_WRITE = """async url => {
    try { await fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include', body: '\\n'}) } catch { return false }
    return true
}"""
_SUBMIT = """url => {
    const form = Object.assign(document.createElement('form'), {method: 'POST', action: url})
    document.body.append(form)
    form.submit()
}"""
_CONNECT = """url => new Promise(done => {
    const socket = new WebSocket(url)
    socket.onopen = () => { socket.close(); done(true) }
    socket.onerror = () => done(false)
})"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a headless Chromium for as long as the block lasts."""
    program = need_program("chromium", "chromium-browser", "google-chrome", hint="install Debian's chromium package")
    arguments = ["--no-sandbox", "--disable-gpu", f"--host-resolver-rules=MAP *.{SITE} 127.0.0.1"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


def read(page: Page, url: str) -> int:
    """Return the status of a GET with the visitor's credential, 0 if the page cannot read the response."""
    return int(page.evaluate(_READ, url))


def write(page: Page, url: str) -> None:
    """Send a POST with the visitor's credential, for whose response the page does not ask."""
    assert page.evaluate(_WRITE, url)


def submit(page: Page, url: str) -> int:
    """Submit a form in the visitor's name, and return the status."""
    with page.expect_navigation() as navigation:
        page.evaluate(_SUBMIT, url)
    return navigation.value.status


def connects(page: Page, url: str) -> bool:
    """Return whether the page can open a WebSocket with the visitor's credential."""
    return bool(page.evaluate(_CONNECT, url.replace("http://", "ws://")))
