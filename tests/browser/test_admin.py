"""The admin in a browser, under its Content-Security-Policy: no console error, no request to another host."""

import re

import pytest

from tests.browser.conftest import PASSWORD, Watched

pytestmark = [pytest.mark.browser, pytest.mark.sqlite]

PAGES = [
    "/admin/",
    "/admin/accounts/",
    "/admin/rbac/",
    *(
        f"/admin/{name}/"
        for name in (
            "accounts/user", "accounts/serviceaccount", "accounts/token", "accounts/grouprole",
            "rbac/role", "rbac/route", "audit/entry", "axes/accessattempt",
        )
    ),
    *(
        f"/admin/{name}/add/"
        for name in ("accounts/user", "accounts/serviceaccount", "accounts/grouprole", "rbac/role", "rbac/route")
    ),
]  # fmt: skip


def sign_in(watched: Watched) -> None:
    """Sign in as alice."""
    watched.open("/admin/")
    watched.page.fill("#id_username", "alice@example.com")
    watched.page.fill("#id_password", PASSWORD)
    watched.press("Sign in")
    assert "welcome, alice@example.com" in watched.text().lower()


def test_an_admin_creates_a_user_a_service_account_and_a_token_that_is_shown_once(watched: Watched) -> None:
    sign_in(watched)
    page = watched.page

    watched.open("/admin/accounts/user/add/")
    page.fill("#id_username", "dora@example.com")
    page.fill("#id_password", "an entirely new secret")
    page.select_option("#id_role", label="viewer")
    watched.press("Save")
    assert "was added successfully" in watched.text()

    watched.open("/admin/accounts/serviceaccount/add/")
    page.fill("#id_name", "nightly")
    page.select_option("#id_role", label="user")
    page.locator(".field-owner .select2-selection").click()
    page.locator(".select2-search__field").fill("alice")
    page.get_by_role("option", name="alice@example.com").click()
    watched.press("Save")
    assert "was added successfully" in watched.text()

    page.get_by_role("link", name="nightly").first.click()
    page.get_by_role("link", name="Create token").click()
    assert page.input_value("#id_days") == "30"
    page.fill("#id_name", "builds")
    watched.press("Create token")
    secret = page.locator("pre.secret").inner_text()
    assert re.fullmatch(r"sky_\w{12}_\w{49}", secret)
    assert secret not in page.url
    assert _opens(watched, secret)

    page.reload(wait_until="networkidle")
    assert secret not in page.content()
    assert "already used" in watched.text()
    page.go_back(wait_until="networkidle")
    assert secret not in page.content()
    watched.open("/admin/accounts/token/")
    assert page.locator("#result_list tbody tr").count() == 1

    watched.open("/admin/accounts/serviceaccount/")
    page.get_by_role("link", name="nightly").first.click()
    page.get_by_role("link", name="Revoke token").click()
    assert _opens(watched, secret), "opening the confirmation does not revoke"
    watched.press("Revoke token")
    assert "Token revoked" in watched.text()
    assert not _opens(watched, secret)

    page.get_by_role("button", name="Log out").click()
    page.wait_for_load_state("networkidle")
    watched.open("/admin/")
    assert "/sign-in?next=" in page.url
    assert watched.complaints == []
    assert watched.strangers() == []


def test_every_admin_page_opens_without_a_console_error(watched: Watched) -> None:
    watched.skyauth.console("create_account", name="pipeline", role="user")
    watched.skyauth.console("issue", account="pipeline")
    sign_in(watched)
    page = watched.page
    for path in PAGES:
        watched.open(path)
        first = page.locator("#result_list tbody th a").first
        if first.count():
            href = first.get_attribute("href")
            assert href is not None
            watched.open(href)
            watched.open(href.replace("/change/", "/history/"))
    for path in (
        "accounts/user/set-role",
        "accounts/serviceaccount/issue-token",
        "accounts/token/rotate",
        "accounts/token/revoke",
    ):
        watched.open(f"/admin/{path}/?rows=1")
    watched.open("/admin/accounts/serviceaccount/")
    page.locator("#result_list .action-select").first.check()
    page.select_option("select[name=action]", label="Delete selected service accounts")
    page.get_by_role("button", name=re.compile("Go|Run")).click()
    page.wait_for_load_state("networkidle")
    assert "rejected immediately" in watched.text()
    page.get_by_role("link", name="Cancel").click()
    page.wait_for_load_state("networkidle")
    assert watched.complaints == []
    assert watched.strangers() == []
    assert len(watched.addresses) > 50, "the requests were observed"


def test_the_browser_reports_what_the_policy_forbids(watched: Watched) -> None:
    watched.open("/sign-in")
    watched.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">x</p>')")
    watched.page.evaluate("() => fetch('http://192.0.2.1/').catch(() => null)")
    watched.page.wait_for_timeout(200)
    assert any("style-src" in complaint for complaint in watched.complaints)
    assert any("connect-src" in complaint for complaint in watched.complaints)


def _opens(watched: Watched, secret: str) -> bool:
    """Return whether the verify endpoint accepts the token."""
    answer = watched.skyauth.ask(("Authorization", f"Bearer {secret}"))
    assert answer.status in {200, 401}
    return answer.status == 200
