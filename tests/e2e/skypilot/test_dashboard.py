"""SkyPilot's own dashboard, served by its own server behind the gateway, manages SkyAuth's people and machines."""

import re
from collections.abc import Iterator
from typing import Final

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.e2e.skypilot.conftest import ALICE, BOB, Gateway, Ground
from tests.e2e.skypilot.test_role_changes import cluster
from tests.factories import PASSWORD
from tests.http_client import ask, bearer, session_key
from tests.requirements import need_program
from tests.servers import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.xdist_group("skypilot"), pytest.mark.sqlite]

PATIENCE: Final = 30_000  # milliseconds; two thousand where nothing else runs


@pytest.fixture
def page(ground: Ground) -> Iterator[Page]:
    """A page of Alice's, who signed in at SkyAuth."""
    program = need_program("chromium", "chromium-browser", "google-chrome", hint="install Debian's chromium package")
    gateway = Gateway("caddy", ground.gateways["caddy"], ground)
    key = session_key(ground.skyauth.port, ALICE, PASSWORD)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(base_url=gateway.address, viewport={"width": 1400, "height": 900})
        context.add_cookies([{"name": "skyauth", "value": key, "url": gateway.address}])
        yield context.new_page()
        browser.close()


def test_people_and_machines_are_managed_in_skypilots_own_dashboard(page: Page, ground: Ground) -> None:
    page.goto("/dashboard/users")
    page.get_by_text(BOB).first.wait_for(timeout=PATIENCE)
    page.get_by_text("Skip Tour").click()

    page.get_by_title("Create New User").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_placeholder("Username").fill("Carol@Example.com")
    dialog.get_by_placeholder("Password").fill(PASSWORD)
    dialog.get_by_role("button", name="Create").click()
    carol = page.get_by_role("row").filter(has_text="carol@example.com")
    carol.get_by_title("Edit role").click(timeout=PATIENCE)
    carol.get_by_role("combobox").select_option("admin")
    carol.get_by_title("Save").click()
    carol.get_by_text("Admin").wait_for(timeout=PATIENCE)

    page.goto("/dashboard/users?tab=service-accounts")
    page.get_by_title("Create Service Account").first.click(timeout=PATIENCE)
    dialog.get_by_role("textbox").first.fill("from_the_dashboard")
    dialog.get_by_role("button", name="Create").click()
    token = str(dialog.get_by_text(re.compile(r"sky_\w+")).first.inner_text(timeout=PATIENCE))

    me = ask(ground.gateways["caddy"], "/users/role", [bearer(token)])
    assert (me.status, me.json["name"], me.json["role"]) == (200, "from_the_dashboard", "viewer")
    people = ask(ground.gateways["caddy"], "/users", [bearer(token)]).json
    assert {row["name"]: row["role"] for row in people}["carol@example.com"] == "admin"

    page.goto("/dashboard/users?tab=service-accounts")
    page.get_by_role("row").filter(has_text="from_the_dashboard").get_by_role("button").last.click(timeout=PATIENCE)
    # While the list is fetched anew it shows no row: the answer says that the account is deleted, a missing row does not.
    with page.expect_response(re.compile("/users/service-account-tokens/delete$"), timeout=PATIENCE) as deleted:
        dialog.get_by_role("button", name="Delete").click()
    assert deleted.value.status == 200
    page.get_by_role("row").filter(has_text="from_the_dashboard").wait_for(state="detached", timeout=PATIENCE)
    assert ask(ground.gateways["caddy"], "/users/role", [bearer(token)]).status == 401


def test_skypilots_own_dashboard_counts_the_clusters_of_a_service_account(page: Page, ground: Ground) -> None:
    gateway = Gateway("caddy", ground.gateways["caddy"], ground)
    token = ground.machine("counted", "user")
    wait_until(lambda: gateway.ask(bearer(token)).status == 200, "the role is sent")
    [name] = [name for name in ground.server.users() if name.startswith("counted@sa-")]
    with cluster(ground, name):
        page.goto("/dashboard/users?tab=service-accounts")
        row = page.get_by_role("row").filter(has_text="counted")
        row.get_by_role("link", name="1", exact=True).wait_for(timeout=PATIENCE)
