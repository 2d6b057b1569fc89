"""Users in a browser: the list, role changes, creation, disabling and deletion; also without JavaScript."""

import pytest

from tests.browser.conftest import PASSWORD, Visit, Watched, sign_in
from tests.browser.page_checks import audit_page
from tests.servers import SkyAuth

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser"), pytest.mark.sqlite]

LIST = "/skyauth/users"


def find(watched: Watched, name: str) -> None:
    """Open the list filtered to one user."""
    watched.open(f"{LIST}?q={name}")
    assert watched.page.get_by_role("link", name=name).count() == 1


def ignore_error_status(watched: Watched) -> None:
    """Drop the browser's errors about 409 and 422, the statuses of rejected changes."""
    texts = ("the server responded with a status of 4", "Response Status Error Code 4")
    watched.complaints[:] = [text for text in watched.complaints if not any(words in text for words in texts)]


@pytest.mark.parametrize("name", ["alice@example.com", "bob@example.com", "vera@example.com"])
def test_the_pages_pass_the_page_checks_for_each_role(visit: Visit, house: SkyAuth, name: str) -> None:
    watched = visit(name)
    watched.open(LIST)
    audit_page(watched)
    assert watched.page.get_by_role("link", name="Create user").count() == (name == "alice@example.com")
    assert watched.page.locator("main select[name=role]").count() > 1 or name != "alice@example.com"
    watched.open(f"{LIST}?q=bob@example.com")  # other tests add users, and the list has pages
    watched.page.get_by_role("link", name="bob@example.com").click()
    watched.page.wait_for_load_state("networkidle")
    audit_page(watched)
    assert watched.page.get_by_role("link", name="Delete user").count() == (name == "alice@example.com")
    watched.open(f"{LIST}?q=nobody-at-all")
    assert "No users match these filters" in watched.text()
    audit_page(watched)


def test_search_filters_while_typing(visit: Visit, house: SkyAuth) -> None:
    house.console("create_user", name="rosa@example.com", role="user")
    watched = visit("alice@example.com")
    page = watched.page
    watched.open(LIST)
    page.get_by_role("searchbox", name="Search").press_sequentially("rosa")
    page.wait_for_url("**/users?q=rosa*")
    page.wait_for_function("document.querySelectorAll('tbody tr').length == 1")
    asked = len(watched.addresses)
    page.get_by_label("Role of rosa@example.com", exact=True).focus()
    assert watched.addresses[asked:] == [], "leaving the search field sends no request"
    page.get_by_label("Status").select_option("disabled")
    page.get_by_text("No users match these filters").wait_for()
    page.get_by_label("Status").select_option("")
    page.get_by_label("Role of rosa@example.com", exact=True).wait_for()
    audit_page(watched)


KEYS = ("Home", "a", "ArrowUp", "PageUp", "End", "u", "v", "Enter", "Space", "Escape")


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without"])
def test_promise_55_no_key_on_a_role_changes_it(visit: Visit, house: SkyAuth, script: bool) -> None:
    name = f"kim{int(script)}@example.com"
    uid = house.console("create_user", name=name, role="user")
    watched = visit("alice@example.com", java_script_enabled=script)
    page = watched.page
    for path, label in ((f"{LIST}?q={name}", f"Role of {name}"), (f"{LIST}/{uid}", "New role")):
        watched.open(path)
        asked = len(watched.addresses)
        select = page.get_by_label(label, exact=True)
        select.focus()
        for key in KEYS:
            page.keyboard.press(key)
        page.keyboard.press("Tab")
        page.wait_for_timeout(300)
        assert watched.addresses[asked:] == []
    watched.open(f"{LIST}?q={name}")
    page.get_by_label("Select all users on this page").check() if script else page.get_by_label(f"Select {name}").check()
    page.get_by_label("Role for the selected users").focus()
    for key in KEYS:
        page.keyboard.press(key)
    assert house.console("role_of", name=name) == "user"


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without"])
def test_promise_55_a_role_changes_after_a_confirmation_that_names_it(visit: Visit, house: SkyAuth, script: bool) -> None:
    name = f"lea{int(script)}@example.com"
    house.console("create_user", name=name, role="user")
    watched = visit("alice@example.com", java_script_enabled=script)
    page = watched.page
    find(watched, name)
    page.get_by_label(f"Role of {name}", exact=True).select_option("admin")
    watched.press(f"Change role of {name}")
    assert f"Change the role of {name} from user to admin?" in watched.text()
    assert "admin is an administrative role." in watched.text()
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    assert house.console("role_of", name=name) == "user", "nothing on the page has the focus"
    if script:
        audit_page(watched)
    watched.press("Change role to admin")
    assert f"The role of {name} was changed from user to admin." in watched.text()
    assert page.get_by_label(f"Role of {name}", exact=True).input_value() == "admin"
    assert house.console("role_of", name=name) == "admin"


def test_roles_change_in_bulk_after_a_confirmation(visit: Visit, house: SkyAuth) -> None:
    for name in ("mia@bulk.example", "noa@bulk.example"):
        house.console("create_user", name=name, role="user")
    watched = visit("alice@example.com")
    page = watched.page
    watched.open(f"{LIST}?q=bulk.example")
    page.get_by_label("Select all users on this page").check()
    page.get_by_label("Role for the selected users").select_option("viewer")
    watched.press("Change roles")
    assert "Change the role of 2 users to viewer?" in watched.text()
    audit_page(watched)
    page.get_by_role("link", name="Cancel").click()
    page.wait_for_url("**/users?q=bulk.example")
    assert house.console("role_of", name="mia@bulk.example") == "user"
    page.get_by_label("Select all users on this page").check()
    page.get_by_label("Role for the selected users").select_option("viewer")
    watched.press("Change roles")
    watched.press("Change roles to viewer")
    assert "2 users now have the role viewer." in watched.text()
    assert house.console("role_of", name="noa@bulk.example") == "viewer"


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without"])
def test_an_admin_creates_disables_enables_and_deletes_a_user(visit: Visit, house: SkyAuth, script: bool) -> None:
    name = f"dora{int(script)}@example.com"
    watched = visit("alice@example.com", java_script_enabled=script)
    page = watched.page
    watched.open(LIST)
    page.get_by_role("link", name="Create user").click()
    page.get_by_label("Username", exact=True).fill("bob@example.com")
    watched.press("Create user")
    assert "already exists" in page.locator("#id_username-error").inner_text()
    ignore_error_status(watched)
    if script:
        audit_page(watched)
    page.get_by_label("Username", exact=True).fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    watched.press("Create user")
    assert f"{name} was created" in watched.text()
    page.get_by_label("New role").select_option("viewer")
    watched.press("Change role")
    watched.press("Change role to viewer")
    assert house.console("role_of", name=name) == "viewer"

    other_browser = visit()
    other_browser.open("/sign-in")
    sign_in(other_browser.page, name)

    account = f"doras{int(script)}"
    house.console("create_account", name=account, role="viewer", owner=name)
    token = house.console("issue", account=account)
    assert house.ask(("Authorization", f"Bearer {token}")).status == 200
    find(watched, name)
    page.get_by_role("link", name=name).click()
    page.get_by_role("link", name="Disable user").click()
    page.wait_for_load_state("networkidle")
    assert account in watched.text()
    assert token.split("_")[1] in watched.text()
    if script:
        audit_page(watched)
    watched.press(f"Disable {name}")
    assert "disabled" in watched.text()
    assert house.ask(("Authorization", f"Bearer {token}")).status == 401
    other_browser.open("/skyauth/")
    assert "/sign-in" in other_browser.page.url

    watched.press("Enable user")
    assert house.ask(("Authorization", f"Bearer {token}")).status == 200
    page.get_by_role("link", name="Delete user").click()
    page.get_by_label("Transfer them to another user").check()
    page.get_by_label("New owner").fill("bob@example.com")
    watched.press(f"Delete {name}")
    assert f"{name} was deleted" in watched.text()
    assert house.ask(("Authorization", f"Bearer {token}")).status == 200


def test_the_keyboard_reaches_the_content_and_the_role(visit: Visit) -> None:
    watched = visit("alice@example.com")
    page = watched.page
    find(watched, "vera@example.com")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('aria-label')") == "Role of vera@example.com":
            return
    pytest.fail("Tab does not reach the role")


def test_no_page_can_be_framed(visit: Visit) -> None:
    watched = visit("alice@example.com")
    watched.open(LIST)
    watched.page.evaluate("path => { const f = document.createElement('iframe'); f.src = path; document.body.append(f) }", LIST)
    watched.page.wait_for_timeout(500)
    assert any("frame" in complaint.lower() for complaint in watched.complaints)
