"""Concurrent posts of one form to the real server."""

import re
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import CookieJar

import pytest

from tests.servers import skyauth_server

PASSWORD = "correct horse battery staple"
ISSUE = "/admin/accounts/serviceaccount/issue-token/"


@pytest.mark.e2e
def test_promise_11_of_many_concurrent_posts_of_one_form_one_gets_a_token() -> None:
    with skyauth_server() as server:
        server.console("create_user", name="alice@example.com", role="admin", password=PASSWORD)
        server.console("create_account", name="pipeline", role="user")
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

        def get(path: str) -> str:
            with browser.open(server.address + path, timeout=30) as answer:
                return answer.read().decode()

        def post(path: str, **fields: str) -> str:
            data = urllib.parse.urlencode(fields).encode()
            with browser.open(server.address + path, data, timeout=30) as answer:
                return answer.read().decode()

        def hidden(page: str, name: str) -> str:
            found = re.search(rf'name="{name}" value="([^"]*)"', page)
            assert found is not None
            return found[1]

        form = get("/sign-in")
        post(
            "/sign-in",
            csrfmiddlewaretoken=hidden(form, "csrfmiddlewaretoken"),
            username="alice@example.com",
            password=PASSWORD,
        )
        form = get(f"{ISSUE}?rows=1")
        sent = {name: hidden(form, name) for name in ("csrfmiddlewaretoken", "nonce", "rows")}
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: post(ISSUE, **sent, days="30"), range(8)))
        assert sum("sky_" in answer for answer in answers) == 1
        assert sum("already used" in answer for answer in answers) >= 1
        assert get("/admin/accounts/token/").count('class="action-select"') == 1
