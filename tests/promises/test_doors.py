"""The promises that the doors keep, asked of every door at once."""

import json

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import ServiceAccount, Token, User
from tests.factories import PASSWORD, make_token


def signed_in(user: User, *, csrf: bool) -> Client:
    """Return a browser with a session of this user."""
    browser = Client(enforce_csrf_checks=csrf, raise_request_exception=False)
    assert browser.login(username=user.username, password=PASSWORD)
    return browser


def send(browser: Client, method: str, path: str, body: object) -> int:
    return browser.generic(method, path, json.dumps(body), content_type="application/json").status_code


WRITES = [
    ("POST", "/api/v1/users", {"username": "new@example.com", "role": "user"}),
    ("PATCH", "/api/v1/users/{user}", {"role": "viewer"}),
    ("DELETE", "/api/v1/users/{user}", None),
    ("POST", "/api/v1/service-accounts", {"name": "new"}),
    ("POST", "/api/v1/service-accounts/{account}/tokens", {}),
    ("DELETE", "/api/v1/service-accounts/{account}", None),
    ("POST", "/api/v1/roles", {"name": "new", "permissions": []}),
    ("POST", "/api/v1/routes", {"path": "/a", "methods": ["GET"], "permission": "upstream:read"}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_promise_36_a_browsers_write_needs_csrf_proof(
    alice: User, bob: User, pipeline: ServiceAccount, method: str, path: str, body: object
) -> None:
    path = path.format(user=bob.uid, account=pipeline.uid)
    before = (list(User.objects.values("uid", "role")), ServiceAccount.objects.count(), Token.objects.count())
    assert send(signed_in(alice, csrf=True), method, path, body) == 403
    assert (list(User.objects.values("uid", "role")), ServiceAccount.objects.count(), Token.objects.count()) == before
    assert send(signed_in(alice, csrf=False), method, path, body) in {200, 201, 204}, "the same request with proof is good"


def test_promise_36_the_admins_forms_need_csrf_proof(alice: User) -> None:
    browser = signed_in(alice, csrf=True)
    for name in ("admin:login", "admin:logout", "admin:accounts_user_add", "admin:password_change"):
        assert browser.post(reverse(name), {}).status_code == 403, name


@pytest.mark.parametrize("path", ["/api/v1/users", "/api/v1/service-accounts", "/api/v1/roles", "/api/v1/routes", "/admin/"])
def test_promise_36_reading_changes_nothing(alice: User, pipeline: ServiceAccount, path: str) -> None:
    make_token(pipeline)
    browser = signed_in(alice, csrf=True)
    before = [list(model.objects.order_by("pk").values()) for model in (ServiceAccount, Token)]
    for method in ("GET", "HEAD", "OPTIONS"):
        assert browser.generic(method, path).status_code in {200, 204, 405}
    assert [list(model.objects.order_by("pk").values()) for model in (ServiceAccount, Token)] == before


EVIL_REDIRECTS = [
    "https://evil.example",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "https:evil.example",
    "http:///evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "https://testserver@evil.example",
    "https://testserver.evil.example",
    " https://evil.example",
    "\thttps://evil.example",
]


@pytest.mark.parametrize("target", EVIL_REDIRECTS)
def test_promise_41_signing_in_leads_nowhere_else(alice: User, target: str) -> None:
    form = {"username": alice.username, "password": PASSWORD, "next": target}
    answer = Client().post(reverse("admin:login"), form)
    assert (answer.status_code, answer["Location"]) == (302, "/skyauth/")


def test_promise_41_signing_in_leads_back_to_a_page_of_ours(alice: User) -> None:
    form = {"username": alice.username, "password": PASSWORD, "next": "/admin/accounts/user/"}
    assert Client().post(reverse("admin:login"), form)["Location"] == "/admin/accounts/user/"


PROTECTED = {
    "uid": "00000000",
    "username": "root@example.com",
    "is_staff": True,
    "is_superuser": True,
    "is_active": True,
    "password_hash": "x",
    "role_source": "group",
    "permissions": ["upstream:admin"],
    "created_at": "2000-01-01T00:00:00Z",
    "last_seen_at": "2000-01-01T00:00:00Z",
    "id": 1,
    "pk": 1,
}


@pytest.mark.parametrize("field", PROTECTED)
def test_promise_31_a_field_that_is_not_for_writing_is_not_written(alice: User, bob: User, field: str) -> None:
    before = User.objects.filter(pk=bob.pk).values().get()
    body = {field: PROTECTED[field]}
    assert send(signed_in(alice, csrf=False), "PATCH", f"/api/v1/users/{bob.uid}", body) in {200, 400}
    assert User.objects.filter(pk=bob.pk).values().get() == before


@pytest.mark.parametrize("field", ["uid", "digest", "key_id", "created_by", "last_used_at"])
def test_promise_31_a_machine_and_its_token_take_no_fields_but_those_named(
    bob: User, pipeline: ServiceAccount, field: str
) -> None:
    browser = signed_in(bob, csrf=False)
    before = ServiceAccount.objects.values().get()
    assert send(browser, "PATCH", f"/api/v1/service-accounts/{pipeline.uid}", {field: "forged"}) in {200, 400}
    assert ServiceAccount.objects.values().get() == before
    assert send(browser, "POST", f"/api/v1/service-accounts/{pipeline.uid}/tokens", {field: "forged"}) in {201, 400}
    assert "forged" not in str(list(Token.objects.values()))
