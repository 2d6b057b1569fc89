#!/usr/bin/env python
"""Writes docs/images/*.png: the main pages of the dashboard of a demonstration installation, light, dark and narrow.

    .venv/bin/python scripts/screenshots.py [NAME ...]
    .venv/bin/python scripts/screenshots.py --all DIRECTORY [NAME ...]

With --all, it writes every page at full height, also narrow in dark mode, to another directory, for review after a change of
the style. It needs the chromium package of Debian. The installation is temporary, on a free port.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Browser, Page, StorageState, sync_playwright  # noqa: E402 - the path comes first

from tests.browser.conftest import PASSWORD, sign_in  # noqa: E402
from tests.requirements import need_program  # noqa: E402
from tests.servers import SkyAuth, skyauth_server  # noqa: E402

IMAGES: Final = ROOT / "docs" / "images"
ADMIN: Final = "alice@example.com"
WIDE: Final = {"width": 1280, "height": 800}
NARROW: Final = {"width": 375, "height": 812}
LOOKS: Final = (("", "light", WIDE), ("-dark", "dark", WIDE), ("-narrow", "light", NARROW), ("-narrow-dark", "dark", NARROW))
MAIN: Final = frozenset({
    "access", "access-role", "access-routes", "audit", "home", "service-account", "service-accounts", "token-shown", "users",
    "users-import",
})  # fmt: skip


def _nothing(page: Page) -> None:
    """Leave the page as it opens."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture: its file name, the page, the user, an action on the page before, and the expected status."""

    name: str
    path: str
    user: str = ADMIN
    then: Callable[[Page], None] = _nothing
    status: int = 200


def _open(*names: str) -> Callable[[Page], None]:
    """Return an action that follows the links of these names, one after the other."""

    def follow(page: Page) -> None:
        for name in names:
            page.get_by_role("link", name=name, exact=True).first.click()
            page.wait_for_load_state("networkidle")

    return follow


def _preview(*unticked: str) -> Callable[[Page], None]:
    """Return an action that previews a role without these permissions."""

    def preview(page: Page) -> None:
        for name in unticked:
            page.locator(f"[name=permissions][value='{name}']").uncheck()
        page.get_by_role("button", name="Preview changes", exact=True).click()
        page.wait_for_load_state("networkidle")

    return preview


def _check_lines(page: Page) -> None:
    """Check lines without importing them."""
    lines = "nora@example.com,user,Nora\noscar@example.com,captain,Oscar\n"
    page.get_by_label("CSV text").fill(f"username,role,display_name\n{lines}")
    page.get_by_role("button", name="Preview import").click()
    page.wait_for_load_state("networkidle")


def _import_lines(page: Page) -> None:
    """Import a line; each picture has a different user."""
    page.get_by_label("CSV text").fill(f"username,role\nnora-{time.monotonic_ns()}@example.com,user\n")
    for button in ("Preview import", "Import 1 line"):
        page.get_by_role("button", name=button).click()
        page.wait_for_load_state("networkidle")


def _make_account(page: Page) -> None:
    """Create a service account, so that its token is shown; each picture has a different one."""
    page.get_by_label("Name", exact=True).fill(f"nightly-{time.monotonic_ns() % 1_000_000}")
    page.get_by_role("button", name="Create service account").click()
    page.wait_for_load_state("networkidle")


PAGES: Final = (
    Shot("sign-in", "/sign-in", user=""),
    Shot("home", "/skyauth/"),
    Shot("home-of-a-user", "/skyauth/", user="bob@example.com"),
    Shot("users", "/skyauth/users"),
    Shot("users-seen-by-a-viewer", "/skyauth/users", user="vera@example.com"),
    Shot("user", "/skyauth/users?q=bob", then=_open("bob@example.com")),
    Shot("user-new", "/skyauth/users/new"),
    Shot("users-import", "/skyauth/users/import", then=_check_lines),
    Shot("service-accounts", "/skyauth/service-accounts"),
    Shot("service-accounts-timeline", "/skyauth/service-accounts/timeline"),
    Shot("service-account", "/skyauth/service-accounts?q=nightly", then=_open("nightly-build")),
    Shot("service-account-delete", "/skyauth/service-accounts?q=nightly", then=_open("nightly-build", "Delete service account")),
    Shot("token-rotate", "/skyauth/service-accounts?q=nightly", then=_open("nightly-build", "Rotate token ci")),
    Shot("service-account-new", "/skyauth/service-accounts/new"),
    Shot("token-shown", "/skyauth/service-accounts/new", then=_make_account),
    Shot("audit", "/skyauth/audit"),
    Shot("sessions", "/skyauth/sessions"),
    Shot("user-leaves", "/skyauth/users?q=bob", then=_open("bob@example.com", "Delete user")),
    Shot("access", "/skyauth/access"),
    Shot("access-role", "/skyauth/access/roles/user", then=_preview("upstream:write")),
    Shot("access-routes", "/skyauth/access/routes?q=dashboard/api"),
    Shot("access-route", "/skyauth/access/routes?q=/users/export", then=_open("/users/export")),
    Shot("access-routes-few", "/skyauth/access/routes?permission=upstream:admin"),
    Shot("access-packs", "/skyauth/access/packs"),
    Shot("access-pack", "/skyauth/access/packs/read-write"),
    Shot("access-groups", "/skyauth/access/groups"),
    Shot("access-try", "/skyauth/access/try?who=vera@example.com&method=POST&path=/launch"),
    Shot("own-password", "/skyauth/password"),
    Shot("user-disable", "/skyauth/users?q=bob", then=_open("bob@example.com", "Disable user")),
    Shot("users-imported", "/skyauth/users/import", then=_import_lines),
    Shot("token-new", "/skyauth/service-accounts?q=nightly", then=_open("nightly-build", "Create token")),
    Shot("token-revoke", "/skyauth/service-accounts?q=nightly", then=_open("nightly-build", "Revoke token ci")),
    Shot(
        "service-account-disable",
        "/skyauth/service-accounts?q=nightly",
        then=_open("nightly-build", "Disable service account"),
    ),
    Shot("access-role-new", "/skyauth/access/new-role"),
    Shot("access-role-delete", "/skyauth/access/roles/auditor/delete"),
    Shot("access-role-seen-by-a-viewer", "/skyauth/access/roles/user", user="vera@example.com"),
    Shot("access-route-new", "/skyauth/access/routes/new"),
    Shot("access-route-delete", "/skyauth/access/routes?q=/users/export", then=_open("/users/export", "Delete route")),
    Shot("access-group-new", "/skyauth/access/groups/new"),
    Shot("access-group", "/skyauth/access/groups", then=_open("ml-engineers")),
    Shot("access-group-delete", "/skyauth/access/groups", then=_open("ml-engineers", "Delete group")),
    Shot("decision", "/skyauth/audit?event=refusals", then=_open("POST api.example.com/launch")),
    Shot("not-allowed", "/skyauth/audit", user="vera@example.com", status=403),
    Shot("not-found", "/skyauth/nowhere", status=404),
    Shot("cli-consent", "/auth/authorize?code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
    Shot("cli-token", "/token"),
    Shot("access-try-oneself", "/skyauth/access/try?method=GET&path=/api/health", user="vera@example.com"),
)  # fmt: skip


def fill(skyauth: SkyAuth) -> None:
    """Fill the installation with demonstration data."""
    subprocess.run([sys.executable, ROOT / "scripts" / "demo_data.py", PASSWORD], cwd=ROOT, env=skyauth.environment, check=True)


def take(browser: Browser, skyauth: SkyAuth, shot: Shot, signed_in: dict[str, StorageState], where: Path) -> None:
    """Write the pictures of one page: NAME.png, NAME-dark.png and so on."""
    short = where == IMAGES
    if shot.user and shot.user not in signed_in:
        page = browser.new_context().new_page()
        page.goto(f"{skyauth.address}/sign-in")
        sign_in(page, shot.user)
        signed_in[shot.user] = page.context.storage_state()
    for suffix, scheme, size in LOOKS[: 3 if short else 4]:
        context = browser.new_context(
            viewport=size,  # type: ignore[arg-type]
            color_scheme=scheme,  # type: ignore[arg-type]
            reduced_motion="reduce",
            storage_state=signed_in.get(shot.user),
        )
        page = context.new_page()
        response = page.goto(skyauth.address + shot.path, wait_until="networkidle")
        assert response is not None
        assert response.status == shot.status, f"{shot.path}: {response.status}"
        shot.then(page)
        page.screenshot(path=where / f"{shot.name}{suffix}.png", full_page=not short)
        context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes screenshots of the dashboard.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(shot.name for shot in PAGES)}")
    parser.add_argument(
        "--all",
        type=Path,
        metavar="DIRECTORY",
        help="write every page at full height, in every size and colour scheme, to this directory",
    )
    options = parser.parse_args()
    where, wanted = (IMAGES, options.names or MAIN) if options.all is None else (options.all, options.names)
    program = need_program("chromium", "chromium-browser", "google-chrome", hint="install Debian's chromium package")
    where.mkdir(parents=True, exist_ok=True)
    with skyauth_server(RBAC_DEFAULT_ROLE="admin") as skyauth, sync_playwright() as playwright:
        fill(skyauth)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        signed_in: dict[str, StorageState] = {}
        for shot in PAGES:
            if not wanted or shot.name in wanted:
                take(browser, skyauth, shot, signed_in, where)
                print(where / f"{shot.name}.png", flush=True)


if __name__ == "__main__":
    main()
