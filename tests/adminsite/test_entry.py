"""Signing in to the admin and out of it."""

import logging

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client

from accounts.models import ServiceAccount, SignIn, User
from audit.models import Entry
from authn.proxy_header_middleware import SCOPE_KEY
from authn.proxy_headers import ProxyInfo
from authn.session_store import SessionStore
from tests.factories import PASSWORD

LOGIN = "/admin/login/"
SHARED = "shared:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M="  # the password is "test"


def log_in(client: Client, username: str, password: str, **more: str):
    """Send the login form."""
    return client.post(f"{LOGIN}?next=/admin/", {"username": username, "password": password, "next": "/admin/"}, **more)


def test_signing_in_creates_a_new_session_key(client: Client, alice: User, settings) -> None:
    client.get(LOGIN)
    planted = client.session  # a session key that an attacker may have planted
    planted["x"] = 1
    planted.save()
    client.cookies[settings.SESSION_COOKIE_NAME] = planted.session_key
    response = log_in(client, "Alice@example.com", PASSWORD)
    assert response["Location"] == "/admin/"
    assert client.session.session_key != planted.session_key
    assert not SessionStore().exists(planted.session_key)
    assert client.get("/admin/").status_code == 200
    cookie = response.cookies[settings.SESSION_COOKIE_NAME]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert Entry.objects.get(event="sign-in.succeeded").target == "alice@example.com"


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"])
def test_login_redirects_to_this_host_only(target: str, client: Client, alice: User) -> None:
    response = client.post(LOGIN, {"username": alice.username, "password": PASSWORD, "next": target})
    assert response.status_code == 302
    assert "evil" not in response["Location"]
    assert response["Location"].startswith("/")


def test_every_failed_login_returns_the_same_page(client: Client, alice: User, bob: User, vera: User) -> None:
    User.objects.filter(pk=vera.pk).update(is_active=False)
    attempts = {
        "unknown": ("mallory@example.com", PASSWORD),
        "wrong": ("alice@example.com", "a wrong password"),
        "disabled": ("vera@example.com", PASSWORD),
        "not allowed": ("bob@example.com", PASSWORD),
        "invalid user name": ("\u212a", PASSWORD),
    }
    answers = {}
    for case, (username, password) in attempts.items():
        response = log_in(client, username, password)
        assert response.status_code == 200, case
        answers[case] = (str(response.context["form"].errors), response.content.decode().replace(username, "NAME"))
    for _ in range(5):
        log_in(client, "alice@example.com", "a wrong password")
    locked = log_in(client, "alice@example.com", PASSWORD)
    assert locked.status_code == 200, "the right password, from an address that failed too often"
    answers["locked out"] = (str(locked.context["form"].errors), "")
    assert len({errors for errors, _ in answers.values()}) == 1
    assert "_auth_user_id" not in client.session


def test_a_failed_login_is_recorded_without_the_password(client: Client, alice: User, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        log_in(client, "alice@example.com", "hunter2-hunter2")
        log_in(client, "my-password-in-the-wrong-box", "hunter2-hunter2")
    entries = str(list(Entry.objects.values()))
    assert Entry.objects.filter(event="sign-in.refused", actor="alice@example.com", reason="wrong password").exists()
    for secret in ("hunter2-hunter2", "my-password-in-the-wrong-box"):
        assert secret not in entries
        assert secret not in caplog.text


def test_a_lockout_applies_to_one_client_address(client: Client, alice: User) -> None:
    for _ in range(5):
        log_in(client, "alice@example.com", "a wrong password", REMOTE_ADDR="192.0.2.66")
    assert log_in(client, "alice@example.com", PASSWORD, REMOTE_ADDR="192.0.2.66").status_code == 200
    assert log_in(client, "alice@example.com", PASSWORD, REMOTE_ADDR="192.0.2.1").status_code == 302


def test_logging_out_deletes_the_session_on_the_server(client: Client, alice: User, settings) -> None:
    log_in(client, "alice@example.com", PASSWORD)
    key = client.session.session_key
    assert client.get("/admin/logout/").status_code == 405
    assert client.post("/admin/logout/").status_code == 200
    assert not SessionStore().exists(key)
    client.cookies[settings.SESSION_COOKIE_NAME] = key
    assert client.get("/admin/").status_code == 302


def test_a_service_account_with_the_admin_role_cannot_open_the_admin(
    client: Client, pipeline: ServiceAccount, pipeline_token: str
) -> None:
    from rbac.models import Role

    ServiceAccount.objects.update(role=Role.objects.get(name="admin"), owner=None)
    bearer = {"HTTP_AUTHORIZATION": f"Bearer {pipeline_token}"}
    assert client.get("/admin/", **bearer)["Location"].startswith(LOGIN)
    assert client.get("/admin/accounts/user/", **bearer)["Location"].startswith(LOGIN)
    assert log_in(client, "pipeline", pipeline_token).status_code == 200
    assert client.get("/admin/").status_code == 302


@pytest.mark.usefixtures("alice")
def test_the_shared_password_cannot_open_the_admin(client: Client, settings) -> None:
    settings.AUTH_STRING = SHARED
    settings.AUTH_BASIC = True
    basic = {"HTTP_AUTHORIZATION": "Basic c2hhcmVkOnRlc3Q="}
    assert client.get("/admin/", **basic)["Location"].startswith(LOGIN)
    response = log_in(client, "shared", "test")
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
    assert _through_proxy("bob@example.com")["Location"].startswith(LOGIN)
    assert _through_proxy(None)["Location"].startswith(LOGIN)
    User.objects.filter(pk=alice.pk).update(sign_in=SignIn.PASSWORD)
    assert _through_proxy("alice@example.com").status_code == 401


def test_identity_headers_of_an_untrusted_client_are_ignored(client: Client, alice: User, settings) -> None:
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    response = client.get("/admin/", HTTP_X_AUTH_REQUEST_EMAIL="alice@example.com", HTTP_REMOTE_USER="alice@example.com")
    assert response["Location"].startswith(LOGIN)
