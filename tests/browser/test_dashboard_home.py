"""Home and the sign-in page in a browser, for each role."""

import pytest

from tests.browser.conftest import PASSWORD, Visit, sign_in
from tests.browser.page_checks import audit_page
from tests.http_client import ask
from tests.servers import SkyAuth, skyauth_server

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser"), pytest.mark.sqlite]


@pytest.mark.parametrize("name", ["alice@example.com", "bob@example.com", "vera@example.com"])
def test_home_passes_the_page_checks_for_each_role(visit: Visit, name: str) -> None:
    watched = visit(name)
    watched.open("/skyauth/")
    assert name in watched.text()
    watched.page.get_by_text("Permissions of your role").click()
    audit_page(watched)


def test_the_sign_in_page_passes_the_page_checks(visit: Visit) -> None:
    watched = visit()
    watched.open("/sign-in")
    audit_page(watched)
    watched.page.fill("#id_username", "nobody")
    watched.page.fill("#id_password", "wrong")
    watched.press("Sign in")
    assert "Incorrect username or password" in watched.text()
    audit_page(watched)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ("document.body.append(Object.assign(new Image(), {src: '/static/skyauth/icon.svg'}))", "image-alt"),
        ("document.querySelector('.sheet').insertAdjacentHTML('beforebegin', '<textarea cols=90 aria-label=x>')", "TEXTAREA"),
        ("document.body.insertAdjacentHTML('beforeend', '<b style=\"color: red\">x</b>')", "style-src"),
    ],
    ids=["an image without alt text", "something outside the viewport", "an inline style"],
)
def test_the_page_checks_find_problems(visit: Visit, wrong: str, what: str) -> None:
    watched = visit("bob@example.com")
    watched.open("/skyauth/")
    watched.page.evaluate("document.styleSheets[0].insertRule('textarea { width: 90ch !important }')")
    watched.page.evaluate(wrong)
    with pytest.raises(AssertionError, match=what):
        audit_page(watched)


def test_sign_in_with_a_return_url_and_sign_out_without_javascript(visit: Visit, house: SkyAuth) -> None:
    house.console("create_user", name="otto@example.com", role="user", password=PASSWORD)
    watched = visit(java_script_enabled=False)
    page = watched.page
    watched.open("/skyauth/?a=b")
    assert page.url == f"{house.address}/sign-in?next=%2Fskyauth%2F%3Fa%3Db"
    sign_in(page, "otto@example.com")
    assert page.url == f"{house.address}/skyauth/?a=b"
    watched.press("Sign out")
    assert page.url == f"{house.address}/sign-in"
    watched.open("/skyauth/")
    assert "/sign-in" in page.url


def test_a_trusted_proxy_signs_in_without_a_form() -> None:
    with skyauth_server(AUTH_USER_HEADER_FORMAT="plaintext", RBAC_DEFAULT_ROLE="viewer") as server:
        response = ask(server.port, "/skyauth/", [("X-Auth-Request-Email", "nora@example.com")])
        assert response.status == 200
        for expected in ("nora@example.com", "authenticated by the single sign-on proxy in front of SkyAuth", "viewer"):
            assert expected in response.body.decode()
        assert "Sign out" not in response.body.decode()
        assert ask(server.port, "/skyauth/", []).status == 302
