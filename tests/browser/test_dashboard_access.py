"""The section Access in a browser: roles, routes, policy packs, groups and trying a request; with and without JavaScript."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PASSWORD, Visit, Watched
from tests.browser.page_checks import audit_page
from tests.browser.test_dashboard_users import ignore_error_status
from tests.http_client import basic
from tests.servers import HOST, SkyAuth, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser"), pytest.mark.sqlite]

ACCESS = "/skyauth/access"
ROUTES = [
    {"path": "/open/**", "methods": ["*"], "permission": "upstream:public", "note": "For everybody."},
    {"path": "/jobs/*", "methods": ["GET", "HEAD"], "permission": "upstream:read"},
    {"path": "/**", "methods": ["*"], "permission": "upstream:write", "host": HOST},
]


@pytest.fixture
def table(house: SkyAuth) -> Iterator[None]:
    """Three routes, for one test."""
    house.console("replace_routes", routes=ROUTES)
    yield
    house.console("load_pack", name="read-write")


def paths(watched: Watched) -> list[str]:
    """Return the routes that the list shows, in order."""
    return watched.page.locator("tbody th").evaluate_all("cells => cells.map(cell => cell.innerText.split('\\n')[0].trim())")


@pytest.mark.parametrize("name", ["alice@example.com", "bob@example.com", "vera@example.com"])
def test_the_pages_pass_the_page_checks_for_each_role(visit: Visit, table: None, name: str) -> None:
    watched, admin = visit(name), name == "alice@example.com"
    page = watched.page
    pages = ("", "/roles/viewer", "/groups", "/try", "/try?method=POST&path=/jobs/7")
    for path in pages[:1] if name == "bob@example.com" else pages:  # he sees the same as a viewer
        watched.open(ACCESS + path)
        audit_page(watched)
        assert (page.locator("main form[method=post]").count() > 0) == (admin and path == "/roles/viewer"), path
    tabs = page.get_by_role("navigation", name="Access").get_by_role("link").all_inner_texts()
    assert tabs == (["Roles", "Routes", "Groups", "Try a request"] if admin else ["Roles", "Groups", "Try a request"])
    assert page.get_by_label("Caller").count() == admin
    if admin:
        for path in ("/new-role", "/roles/admin", "/routes", "/routes/new", "/packs", "/packs/open", "/groups/new"):
            watched.open(ACCESS + path)
            audit_page(watched)


def test_a_route_moves_by_keyboard_and_keeps_the_focus(visit: Visit, table: None) -> None:
    watched = visit("alice@example.com")
    page = watched.page
    watched.open(f"{ACCESS}/routes")
    assert paths(watched) == ["/open/**", "/jobs/*", f"{HOST}/**"]
    asked = len(watched.addresses)
    page.get_by_role("button", name="Move route 1 down").focus()
    page.keyboard.press("Enter")
    page.get_by_text("Route moved down: #2").wait_for()
    assert paths(watched) == ["/jobs/*", "/open/**", f"{HOST}/**"]
    page.get_by_role("button", name="Move route 2 down").wait_for()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Move route 2 down"
    page.keyboard.press("Enter")
    page.get_by_text("Route moved down: #3").wait_for()
    assert paths(watched) == ["/jobs/*", f"{HOST}/**", "/open/**"]
    assert {address.rpartition("/")[2] for address in watched.addresses[asked:]} == {"move"}, "no page was loaded"
    audit_page(watched)
    page.reload(wait_until="networkidle")
    assert paths(watched) == ["/jobs/*", f"{HOST}/**", "/open/**"]


def test_a_move_that_changes_a_decision_needs_a_confirmation(visit: Visit, house: SkyAuth, table: None) -> None:
    wall = {"path": "/moved/**", "methods": ["*"], "permission": "upstream:admin"}
    house.console("replace_routes", routes=[{"path": "/**", "methods": ["*"], "permission": "upstream:read"}, wall])
    assert house.ask(basic("bob@example.com", PASSWORD), method="GET", uri="/moved/1").status == 200
    wait_until(lambda: any("/moved/1" in row for row in house.console("recent", method="GET")), "the request is noted")
    watched = visit("alice@example.com")
    page = watched.page
    watched.open(f"{ACCESS}/routes")
    page.get_by_role("button", name="Move route 2 up").click()
    heading = page.get_by_role("heading", name="Move route 2 up?")
    expect(heading).to_be_focused()
    assert "1 newly denied" in watched.text()
    audit_page(watched)
    page.get_by_role("link", name="Cancel").click()
    page.get_by_role("button", name="Move route 2 up").wait_for()
    assert paths(watched) == ["/**", "/moved/** never decides"]
    audit_page(watched)
    page.get_by_role("button", name="Move route 2 up").click()
    heading.wait_for()
    watched.press("Move route up")
    assert paths(watched) == ["/moved/**", "/**"]


def test_a_move_in_an_outdated_table_shows_an_error(visit: Visit, house: SkyAuth, table: None) -> None:
    watched = visit("alice@example.com")
    watched.open(f"{ACCESS}/routes")
    house.console("replace_routes", routes=ROUTES[:2])
    watched.page.get_by_role("button", name="Move route 1 down").click()
    watched.page.get_by_text("This route does not exist").wait_for()
    watched.open(f"{ACCESS}/routes")
    assert paths(watched) == ["/open/**", "/jobs/*"]
    ignore_error_status(watched)
    audit_page(watched)


def test_typing_a_path_finds_the_routes_that_match_it(visit: Visit, table: None) -> None:
    watched = visit("alice@example.com")
    page = watched.page
    watched.open(f"{ACCESS}/routes")
    page.get_by_role("searchbox", name="Search").press_sequentially("/jobs/7")
    expect(page.locator("tbody tr")).to_have_count(2)
    assert paths(watched) == ["/jobs/*", f"{HOST}/**"]
    assert page.get_by_role("button", name="Move route").count() == 0
    page.get_by_label("Method").select_option("POST")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Show all routes").click()
    expect(page.locator("tbody tr")).to_have_count(3)


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without"])
def test_an_admin_previews_changes_and_the_saved_rules_match_the_preview(
    visit: Visit, house: SkyAuth, table: None, script: bool
) -> None:
    """Previews of a changed role, a policy pack and a new route, each with real requests."""
    bob = basic("bob@example.com", PASSWORD)
    asked = {"method": "POST", "uri": f"/sampled/{int(script)}"}
    assert house.ask(bob, **asked).status == 200
    wait_until(lambda: any(asked["uri"] in row for row in house.console("recent", method="POST")), "the request is noted")
    watched = visit("alice@example.com", java_script_enabled=script)
    page = watched.page

    watched.open(f"{ACCESS}/roles/user")
    page.get_by_label("upstream:write").uncheck()
    watched.press("Preview changes")
    preview = page.get_by_role("region", name="Preview")
    assert f"POST {HOST}{asked['uri']}" in preview.inner_text()
    assert "newly denied" in preview.inner_text()
    assert not page.get_by_label("upstream:write").is_checked()
    if script:
        audit_page(watched)
    assert house.ask(bob, **asked).status == 200, "a preview saves nothing"
    page.get_by_role("region", name="Preview").get_by_role("button").click()
    page.wait_for_load_state("networkidle")
    assert "The role user was saved." in watched.text()
    assert house.ask(bob, **asked).status == 403

    watched.open(f"{ACCESS}/packs")
    page.get_by_role("link", name="Preview policy pack open").click()
    page.wait_for_load_state("networkidle")
    assert f"POST {HOST}{asked['uri']}" in preview.inner_text()
    assert "newly allowed" in preview.inner_text()
    if script:
        audit_page(watched)
    watched.press("Load policy pack open")
    assert "The policy pack open was loaded" in watched.text()
    assert house.ask(bob, **asked).status == 200

    page.get_by_role("link", name="Add route").click()
    page.get_by_label("Methods").fill("post")
    page.get_by_label("Path", exact=True).fill("/sampled/**")
    page.get_by_label("Required permission").select_option("upstream:admin")
    page.get_by_label("Position").fill("1")
    watched.press("Preview changes")
    assert "Not a method: post" in watched.text()
    ignore_error_status(watched)
    page.get_by_label("Methods").fill("POST")
    watched.press("Preview changes")
    assert "newly denied" in preview.inner_text()
    if script:
        audit_page(watched)
    page.get_by_role("region", name="Preview").get_by_role("button").click()
    page.wait_for_load_state("networkidle")
    assert house.ask(bob, **asked).status == 403
    page.get_by_role("link", name="/sampled/**").click()
    page.get_by_role("link", name="Delete route").click()
    page.wait_for_load_state("networkidle")
    assert "newly allowed" in preview.inner_text()
    if script:
        audit_page(watched)
    watched.press("Delete route")
    assert house.ask(bob, **asked).status == 200

    watched.open(f"{ACCESS}/roles/user")
    page.get_by_label("upstream:write").check()
    watched.press("Save role")
    assert "The role user was saved." in watched.text()


def test_a_request_is_tried_without_javascript(visit: Visit, table: None) -> None:
    watched = visit("alice@example.com", java_script_enabled=False)
    page = watched.page
    watched.open(f"{ACCESS}/try")
    page.get_by_label("Caller").fill("vera@example.com")
    page.get_by_label("Method").fill("POST")
    page.get_by_label("Host").fill(HOST)
    page.get_by_label("Path").fill("/jobs/7")
    watched.press("Try request")
    answer = page.get_by_role("region", name="denied vera@example.com").inner_text()
    assert f"#3 * {HOST}/** -> upstream:write" in answer
    assert "admin" in answer
    page.get_by_role("link", name="Show matching routes").click()
    assert paths(watched) == ["/jobs/*", f"{HOST}/**"]


def test_a_role_and_a_group_are_created_and_deleted_without_javascript(visit: Visit, table: None) -> None:
    watched = visit("alice@example.com", java_script_enabled=False)
    page = watched.page
    watched.open(ACCESS)
    page.get_by_role("link", name="Create role").click()
    page.get_by_label("Name").fill("release-manager")
    page.get_by_label("upstream:read").check()
    watched.press("Create role")
    assert "The role release-manager was created" in watched.text()
    page.get_by_role("link", name="Groups", exact=True).first.click()
    page.get_by_role("link", name="Add group").click()
    page.get_by_label("Group").fill("releases/emea")
    page.get_by_label("Role").select_option("release-manager")
    watched.press("Add group")
    assert "The group releases/emea was added. It maps to the role release-manager." in watched.text()
    watched.open(f"{ACCESS}/roles/release-manager/delete")
    assert "is assigned to 1 group." in watched.text()
    watched.open(f"{ACCESS}/groups")
    page.get_by_role("link", name="releases/emea").click()
    page.get_by_role("link", name="Delete group").click()
    watched.press("Delete group")
    watched.open(f"{ACCESS}/roles/release-manager")
    page.get_by_role("link", name="Delete role").click()
    watched.press("Delete role release-manager")
    assert "The role release-manager was deleted." in watched.text()


def test_two_hundred_routes_stay_usable(visit: Visit, house: SkyAuth, table: None) -> None:
    house.console("load_pack", name="skypilot")
    watched = visit("alice@example.com")
    page = watched.page
    watched.open(f"{ACCESS}/routes")
    rows = page.locator("tbody tr")
    before = rows.count()
    assert before > 140
    height = rows.first.bounding_box()
    assert height is not None
    assert height["height"] < 40, "a row has one line"
    page.get_by_role("searchbox", name="Search").press_sequentially("/users/export")
    expect(rows).not_to_have_count(before)
    page.get_by_role("link", name="/users/export", exact=True).click()
    page.get_by_label("Position").fill("1")
    watched.press("Save route")
    assert paths(watched)[0] == "/users/export"
    page.get_by_role("button", name="Move route 2 down").click()
    page.get_by_text("Route moved down: #3").wait_for()
    audit_page(watched)
