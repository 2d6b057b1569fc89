"""Service accounts, sessions, the audit log and imports in a browser; also without JavaScript."""

import re

import pytest

from tests.browser.conftest import PASSWORD, Visit, Watched, sign_in
from tests.browser.page_checks import audit_page
from tests.http_client import ask, basic, bearer
from tests.servers import SkyAuth

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser"), pytest.mark.sqlite]

LIST = "/skyauth/service-accounts"


def is_accepted(house: SkyAuth, token: str) -> bool:
    """Return whether the verify endpoint accepts a token."""
    return bool(house.ask(bearer(token)).status == 200)


def shown_token(watched: Watched) -> str:
    """Return the token on the page."""
    return watched.page.locator("#token").inner_text().strip()


def test_create_an_account_then_rotate_and_revoke_its_token(visit: Visit, house: SkyAuth) -> None:
    watched = visit("alice@example.com")
    page = watched.page
    watched.open(LIST)
    page.get_by_role("link", name="Create service account").first.click()
    assert page.get_by_label("Days until the token expires").input_value() == "30"
    audit_page(watched)
    page.get_by_label("Name", exact=True).fill("nightly-sweep")
    page.get_by_label("Description").fill("Sweeps every night")
    watched.press("Create service account")
    token = shown_token(watched)
    assert is_accepted(house, token)
    audit_page(watched)
    page.locator("[data-copy='#token']").click()
    page.get_by_text(re.compile("Copied|Selected")).wait_for()
    assert f"Bearer {token}" in page.locator("#curl").inner_text()
    page.get_by_role("link", name="Done").click()
    page.wait_for_load_state("networkidle")
    assert token not in page.content()
    audit_page(watched)
    page.get_by_role("link", name="Rotate").click()
    page.get_by_label("Keep the old token valid for 1 hour").check()
    audit_page(watched)
    watched.press("Rotate token")
    successor = shown_token(watched)
    assert is_accepted(house, token)
    assert is_accepted(house, successor)
    page.get_by_role("link", name="Done").click()
    page.get_by_text("replaced").wait_for()
    audit_page(watched)
    page.get_by_role("link", name="Revoke").first.click()
    audit_page(watched)
    watched.press("Revoke token")
    page.get_by_text("was revoked.").wait_for()
    assert [is_accepted(house, one) for one in (token, successor)].count(True) == 1
    watched.open(f"{LIST}/timeline")
    assert "nightly-sweep" in watched.text()
    audit_page(watched)


def test_a_reload_neither_shows_the_token_nor_creates_another(visit: Visit, house: SkyAuth) -> None:
    watched = visit("bob@example.com")
    page = watched.page
    watched.open(f"{LIST}/new")
    page.get_by_label("Name", exact=True).fill("bobs-own")
    watched.press("Create service account")
    token = shown_token(watched)
    page.reload(wait_until="networkidle")
    assert token not in page.content()
    assert "This form was already submitted" in watched.text()
    watched.complaints.clear()  # the browser logs the 422
    watched.open(f"{LIST}?q=bobs-own")
    assert page.locator("tbody tr").count() == 1
    audit_page(watched)


def test_a_user_sees_own_accounts_and_a_viewer_no_section(visit: Visit, house: SkyAuth) -> None:
    house.console("ensure_account", name="alices", role="user", owner="alice@example.com")
    bob = visit("bob@example.com")
    bob.open(LIST)
    assert "alices" not in bob.text()
    vera = visit("vera@example.com")
    vera.open("/skyauth/")
    assert vera.page.get_by_role("link", name="Service accounts").count() == 0
    answer = vera.page.goto(house.address + LIST)
    assert answer is not None
    assert answer.status == 403
    vera.complaints.clear()
    audit_page(vera)


def test_an_account_is_created_rotated_revoked_and_deleted_without_javascript(visit: Visit, house: SkyAuth) -> None:
    watched = visit("alice@example.com", java_script_enabled=False)
    page = watched.page
    watched.open(f"{LIST}/new")
    page.get_by_label("Name", exact=True).fill("plain")
    watched.press("Create service account")
    first = shown_token(watched)
    page.get_by_role("link", name="Done").click()
    page.get_by_role("link", name="Rotate").click()
    page.get_by_label("Revoke the old token immediately").check()
    watched.press("Rotate token")
    second = shown_token(watched)
    assert (is_accepted(house, first), is_accepted(house, second)) == (False, True)
    page.get_by_role("link", name="Done").click()
    page.get_by_role("link", name="Revoke").click()
    watched.press("Revoke token")
    assert not is_accepted(house, second)
    page.get_by_role("link", name="Delete service account").click()
    watched.press("Delete service account")
    assert "plain was deleted." in watched.text()


def test_sessions_are_listed_and_ended(visit: Visit, house: SkyAuth) -> None:
    house.console("create_user", name="rex@example.com", role="viewer", password=PASSWORD)
    here, there, plain = visit(), visit(), visit(java_script_enabled=False)
    for watched in (here, there, plain):
        watched.open("/sign-in")
        sign_in(watched.page, "rex@example.com")
    here.open("/skyauth/sessions")
    assert here.page.get_by_text("this browser", exact=True).count() == 1
    assert here.page.locator("tbody tr").count() == 3
    audit_page(here)
    plain.open("/skyauth/sessions")
    plain.page.get_by_role("button", name=re.compile("End session")).nth(1).click()
    plain.page.wait_for_load_state("networkidle")
    assert "The session was ended." in plain.text()
    survivor = next(one for one in (here, there) if "/sign-in" not in opened(one))
    survivor.page.get_by_role("button", name="End all other sessions").click()
    survivor.page.get_by_role("dialog").get_by_role("button", name="End all other sessions").click()
    survivor.page.get_by_text("1 session was ended.").wait_for()
    assert "/sign-in" in opened(plain)


def opened(watched: Watched) -> str:
    """Open the page of sessions, and return the URL of the resulting page."""
    watched.page.goto(watched.skyauth.address + "/skyauth/sessions", wait_until="networkidle")
    return watched.page.url


def test_the_audit_log_is_read_filtered_and_exported(visit: Visit, house: SkyAuth) -> None:
    house.console("create_user", name="vic@example.com", role="viewer", password=PASSWORD)
    headers = [("X-Forwarded-Method", "POST"), ("X-Forwarded-Host", "api.example.com"), ("X-Forwarded-Uri", "/launch")]
    assert ask(house.port, "/authz/verify", [*headers, basic("vic@example.com", PASSWORD)]).status == 403
    watched = visit("alice@example.com")
    page = watched.page
    watched.open("/skyauth/audit")
    audit_page(watched)
    page.get_by_label("Event").select_option("refusals")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_load_state("networkidle")
    page.get_by_text("Details").first.click()
    audit_page(watched)
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    text = download.value.path().read_text(encoding="utf-8")
    assert "POST api.example.com/launch" in text
    assert "user.created" not in text
    page.get_by_role("link", name="POST api.example.com/launch").first.click()
    page.get_by_text("Same request now").wait_for()
    assert "upstream:write" in watched.text()
    audit_page(watched)


@pytest.mark.parametrize("scripts", [True, False])
def test_users_are_imported_after_a_preview(visit: Visit, house: SkyAuth, scripts: bool) -> None:
    watched = visit("alice@example.com", java_script_enabled=scripts)
    page = watched.page
    watched.open("/skyauth/users/import")
    name = f"imported-{scripts}".lower()
    page.get_by_label("CSV text").fill(f"username,role,password\n{name}@example.com,captain,\n")
    watched.press("Preview import")
    assert "captain" in watched.text()
    if scripts:
        audit_page(watched)
    page.get_by_label("CSV text").fill(f"username,role,password\n{name}@example.com,viewer,{PASSWORD}\n")
    watched.press("Preview import")
    assert "Nothing has been imported yet." in watched.text()
    if scripts:
        audit_page(watched)
    watched.press("Import 1 line")
    page.get_by_text("Import complete: 1 user created.").wait_for()  # the page loads itself again
    assert house.console("role_of", name=f"{name}@example.com") == "viewer"
    if scripts:
        audit_page(watched)
    watched.open("/skyauth/users/import")
    page.get_by_label("CSV text").fill(f"username,role\n{name}@example.com,user\n")
    page.get_by_label("Update existing users").check()
    watched.press("Preview import")
    assert page.locator("del").all_inner_texts() == ["viewer"]
    if scripts:
        audit_page(watched)
    watched.press("Import 1 line")
    page.get_by_text("Import complete: 0 users created, 1 changed.").wait_for()
    assert house.console("role_of", name=f"{name}@example.com") == "user"
    new_user = visit()
    new_user.open("/sign-in")
    sign_in(new_user.page, f"{name}@example.com")


def test_the_page_of_an_import_loads_itself_again_until_the_result_replaces_its_bar(visit: Visit, house: SkyAuth) -> None:
    watched = visit("alice@example.com")
    page = watched.page
    watched.open("/skyauth/users/import")
    lines = [f"bar{number}@bar.example,viewer,a long enough secret {number}" for number in range(150)]
    page.get_by_label("CSV text").fill("\n".join(["username,role,password", *lines]))
    watched.press("Preview import")
    watched.press("Import 150 lines")
    page.get_by_role("progressbar", name="Progress of the import").wait_for()
    page.get_by_text("Import complete: 150 users created.").wait_for()
    assert watched.addresses.count(page.url) > 1
    assert page.locator("progress:visible").count() == 0
    audit_page(watched)


def test_a_double_click_sends_a_form_once(visit: Visit, house: SkyAuth) -> None:
    watched = visit("alice@example.com")
    page = watched.page
    watched.open("/skyauth/users/new")
    page.get_by_label("Username", exact=True).fill("twice@example.com")
    sent = len(watched.addresses)
    page.get_by_role("button", name="Create user").dblclick()
    page.get_by_text("The user twice@example.com was created").wait_for()
    assert [path for path in watched.addresses[sent:] if path.endswith("/users/new")] == [house.address + "/skyauth/users/new"]
    page.go_back(wait_until="networkidle")
    page.get_by_label("Username", exact=True).fill("thrice@example.com")
    watched.press("Create user")
    assert "thrice@example.com was created" in watched.text(), "the form can be sent again"


@pytest.mark.parametrize("scripts", [True, False])
def test_an_import_goes_on_when_its_page_is_closed(visit: Visit, house: SkyAuth, scripts: bool) -> None:
    watched = visit("alice@example.com", java_script_enabled=scripts)
    page = watched.page
    watched.open("/skyauth/users/import")
    name = f"closed-{scripts}".lower()
    lines = "".join(f"{name}-{n}@example.com,viewer,{PASSWORD}\n" for n in range(150))
    page.get_by_label("CSV text").fill(f"username,role,password\n{lines}")
    watched.press("Preview import")
    watched.press("Import 150 lines")
    page.get_by_role("progressbar").wait_for()
    page.goto("about:blank")
    watched.open("/skyauth/users/import")
    page.locator("h2:has-text('Your latest imports') + ul a").first.click()
    page.get_by_text("Import complete: 150 users created.").wait_for()
    assert house.console("role_of", name=f"{name}-149@example.com") == "viewer"
