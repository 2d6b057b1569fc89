"""Signing in to the admin and out of it."""

import logging
from html import unescape

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client

from accounts.models import ServiceAccount, SignIn, User
from audit.models import Entry
from authn.proxy_header_middleware import SCOPE_KEY
from authn.proxy_headers import ProxyInfo
from authn.session_store import SessionStore
from tests.adminsite.conftest import Visit
from tests.factories import PASSWORD

SIGN_IN = "/sign-in?next=%2Fadmin%2F"
SHARED = "shared:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M="  # the password is "test"


def sign_in(client: Client, username: str, password: str):
    """Send SkyAuth's sign-in form, as it is reached from the admin."""
    assert client.get("/admin/")["Location"] == SIGN_IN
    return client.post("/sign-in", {"username": username, "password": password, "next": "/admin/"})


def test_signing_in_creates_a_new_session_key(client: Client, alice: User, settings) -> None:
    client.get(SIGN_IN)
    planted = client.session  # a session key that an attacker may have planted
    planted["x"] = 1
    planted.save()
    client.cookies[settings.SESSION_COOKIE_NAME] = planted.session_key
    response = sign_in(client, "Alice@example.com", PASSWORD)
    assert response["Location"] == "/admin/"
    assert client.session.session_key != planted.session_key
    assert not SessionStore().exists(planted.session_key)
    assert client.get("/admin/").status_code == 200
    cookie = response.cookies[settings.SESSION_COOKIE_NAME]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert Entry.objects.get(event="sign-in.succeeded").target == "alice@example.com"


def test_a_failed_login_is_recorded_without_the_password(client: Client, alice: User, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        sign_in(client, "alice@example.com", "hunter2-hunter2")
        sign_in(client, "my-password-in-the-wrong-box", "hunter2-hunter2")
    entries = str(list(Entry.objects.values()))
    assert Entry.objects.filter(event="sign-in.refused", actor="alice@example.com", reason="wrong password").exists()
    for secret in ("hunter2-hunter2", "my-password-in-the-wrong-box"):
        assert secret not in entries
        assert secret not in caplog.text


PLAIN_WORDS = "The Django admin requires the permission admin-site:use. Your role user does not include it."


@pytest.mark.parametrize("path", ["/admin/", "/admin/login/", "/admin/login/?next=/admin/rbac/role/", "/admin/accounts/user/"])
def test_a_user_without_the_permission_gets_the_403_page_in_plain_words(bob: User, visit: Visit, path: str) -> None:
    for method in ("get", "post"):
        response = getattr(visit(bob), method)(path, headers={"accept": "text/html"})
        assert response.status_code == 403
        assert PLAIN_WORDS in unescape(response.text)
        assert "Ask an administrator of SkyAuth for a role that does." in response.text
        assert "account" not in response.text, "no other account is asked for"
    entry = Entry.objects.filter(event="request.denied").first()
    assert (entry.actor, entry.reason) == ("bob@example.com", PLAIN_WORDS)


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/admin/", SIGN_IN),
        ("/admin/login/", SIGN_IN),
        ("/admin/accounts/user/?q=a", "/sign-in?next=%2Fadmin%2Faccounts%2Fuser%2F%3Fq%3Da"),
        ("/admin/login/?next=/admin/rbac/role/", "/sign-in?next=%2Fadmin%2Frbac%2Frole%2F"),
        ("/admin/login/?next=https://evil.example/", SIGN_IN),
        ("/admin/login/?next=//evil.example/", SIGN_IN),
    ],
)
def test_an_anonymous_browser_signs_in_at_the_page_of_skyauth(client: Client, db: None, path: str, location: str) -> None:
    assert client.get(path)["Location"] == location
    assert client.post(path)["Location"] == location


def test_an_old_bookmark_of_the_login_page_opens_the_admin(alice_browser: Client) -> None:
    assert alice_browser.get("/admin/login/?next=/admin/rbac/role/")["Location"] == "/admin/rbac/role/"
    assert alice_browser.get("/admin/login/?next=https://evil.example/")["Location"] == "/admin/"


def test_the_password_is_changed_on_the_page_of_the_dashboard(alice_browser: Client) -> None:
    assert alice_browser.get("/admin/password_change/")["Location"] == "/skyauth/password"


def test_logging_out_deletes_the_session_on_the_server(client: Client, alice: User, settings) -> None:
    sign_in(client, "alice@example.com", PASSWORD)
    key = client.session.session_key
    assert client.get("/admin/logout/").status_code == 405
    assert client.post("/admin/logout/", {"next": "https://evil.example/"})["Location"] == "/sign-in"
    assert not SessionStore().exists(key)
    client.cookies[settings.SESSION_COOKIE_NAME] = key
    assert client.get("/admin/").status_code == 302


def test_a_service_account_with_the_admin_role_cannot_open_the_admin(
    client: Client, pipeline: ServiceAccount, pipeline_token: str
) -> None:
    from rbac.models import Role

    ServiceAccount.objects.update(role=Role.objects.get(name="admin"), owner=None)
    bearer = {"HTTP_AUTHORIZATION": f"Bearer {pipeline_token}"}
    for path in ("/admin/", "/admin/accounts/user/"):
        response = client.get(path, **bearer)
        assert (response.status_code, "for users who sign in with a browser" in response.text) == (403, True)
    assert sign_in(client, "pipeline", pipeline_token).status_code == 200
    assert client.get("/admin/").status_code == 302


@pytest.mark.usefixtures("alice")
def test_the_shared_password_cannot_open_the_admin(client: Client, settings) -> None:
    settings.AUTH_STRING = SHARED
    settings.AUTH_BASIC = True
    basic = {"HTTP_AUTHORIZATION": "Basic c2hhcmVkOnRlc3Q="}
    assert client.get("/admin/", **basic).status_code == 403
    response = sign_in(client, "shared", "test")
    assert response.status_code == 200
    assert "_auth_user_id" not in client.session


def _through_proxy(subject: str | None, *, trusted: bool = True, path: str = "/admin/"):
    """Return the response to a request with these filtered proxy headers."""
    found = ProxyInfo(trusted=trusted, peer="192.0.2.10", client="198.51.100.7", subject=subject)
    scope = {"path": path, "query_string": "", "headers": [(b"host", b"testserver")], SCOPE_KEY: found}
    return async_to_sync(AsyncClient().request)(**scope)


def test_a_user_named_by_a_trusted_proxy_opens_the_admin_without_a_login(alice: User, bob: User, settings) -> None:
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    assert _through_proxy("alice@example.com").status_code == 200
    assert _through_proxy("alice@example.com", path="/admin/login/")["Location"] == "/admin/"
    assert _through_proxy("bob@example.com").status_code == 403
    assert _through_proxy(None)["Location"] == SIGN_IN
    User.objects.filter(pk=alice.pk).update(sign_in=SignIn.PASSWORD)
    assert _through_proxy("alice@example.com").status_code == 401


def test_identity_headers_of_an_untrusted_client_are_ignored(client: Client, alice: User, settings) -> None:
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    response = client.get("/admin/", HTTP_X_AUTH_REQUEST_EMAIL="alice@example.com", HTTP_REMOTE_USER="alice@example.com")
    assert response["Location"] == SIGN_IN
