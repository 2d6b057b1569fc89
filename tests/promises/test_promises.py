"""The security promises that several interfaces keep, tested on each of them."""

import json
from typing import Any

import pytest
from django.apps import apps
from django.db.models import AutoField, BooleanField, DateTimeField, Model
from django.test import Client
from django.urls import reverse

from accounts.models import ServiceAccount, Token, User
from tests.factories import PASSWORD, ServiceAccountFactory, make_token


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
def test_promise_36_a_browsers_write_needs_a_csrf_token(
    alice: User, bob: User, pipeline: ServiceAccount, method: str, path: str, body: object
) -> None:
    path = path.format(user=bob.uid, account=pipeline.uid)
    before = (list(User.objects.values("uid", "role")), ServiceAccount.objects.count(), Token.objects.count())
    assert send(signed_in(alice, csrf=True), method, path, body) == 403
    assert (list(User.objects.values("uid", "role")), ServiceAccount.objects.count(), Token.objects.count()) == before
    assert send(signed_in(alice, csrf=False), method, path, body) in {200, 201, 204}, "the same request with proof is good"


def test_promise_36_forms_of_the_django_admin_need_a_csrf_token(alice: User) -> None:
    browser = signed_in(alice, csrf=True)
    for name in ("admin:logout", "admin:accounts_user_add"):
        assert browser.post(reverse(name), {}).status_code == 403, name


def everything() -> dict[type[Model], list[dict[str, Any]]]:
    """Return every row of every table, without when somebody was seen last."""
    rows = {model: list(model._default_manager.order_by("pk").values()) for model in apps.get_models()}
    return {model: [row | {"last_seen_at": None} for row in found] for model, found in rows.items()}


@pytest.mark.parametrize("path", ["/api/v1/users", "/api/v1/service-accounts", "/api/v1/roles", "/api/v1/routes", "/admin/"])
def test_promise_36_reading_changes_nothing(alice: User, pipeline: ServiceAccount, path: str) -> None:
    make_token(pipeline)
    browser = signed_in(alice, csrf=True)
    before = everything()
    assert len(before[ServiceAccount]) == len(before[Token]) == 1
    for method in ("GET", "HEAD", "OPTIONS"):
        assert browser.generic(method, path).status_code in {200, 204, 405}
    assert everything() == before


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
def test_promise_41_signing_in_redirects_to_no_other_host(alice: User, target: str) -> None:
    form = {"username": alice.username, "password": PASSWORD, "next": target}
    answer = Client().post(reverse("dashboard:sign-in"), form)
    assert (answer.status_code, answer["Location"]) == (302, "/skyauth/")


def test_promise_41_signing_in_redirects_back_to_a_page_of_skyauth(alice: User) -> None:
    form = {"username": alice.username, "password": PASSWORD, "next": "/admin/accounts/user/"}
    assert Client().post(reverse("dashboard:sign-in"), form)["Location"] == "/admin/accounts/user/"


def columns(model: type[Model], *, but: set[str]) -> list[str]:
    """Return the columns of a model except these, and the names under which Django knows its key and its foreign keys."""
    fields = [field for field in model._meta.concrete_fields if field.name not in but]
    return sorted({"pk", *(field.name for field in fields), *(field.attname for field in fields)})


def row(model: type[Model], key: int) -> dict[str, Any]:
    """Return every column of a row."""
    return model._default_manager.filter(pk=key).values().get()


def other(model: type[Model], name: str, row: dict[str, Any]) -> Any:
    """Return a value that is not the row's and that the column can hold, as JSON has it."""
    field = model._meta.pk if name == "pk" else model._meta.get_field(name)
    value = row[field.attname]
    if isinstance(field, BooleanField):
        return not value
    if isinstance(field, DateTimeField):
        return "2000-01-01T00:00:00Z"
    if field.is_relation:
        return field.related_model._default_manager.exclude(pk=value).values_list("pk", flat=True).first()
    if isinstance(field, AutoField):
        return value + 1_000_000
    return next(choice for choice, _ in field.choices if choice != value) if field.choices else f"sa-{(value or '')[3:-1]}#"


def powers(user: User) -> tuple[frozenset[str], bool, bool, bool]:
    """Return what a user may do, and whether they are staff, a superuser, and sign in with PASSWORD."""
    user = User.objects.get(pk=user.pk)
    return user.permissions, user.is_staff, user.is_superuser, user.check_password(PASSWORD)


DERIVED = {"is_staff": True, "is_superuser": True, "permissions": ["upstream:admin"], "groups": ["admins"], "password_hash": "x"}
NEW = {"password": PASSWORD, "role": "viewer"}
USER_COLUMNS = columns(User, but={"role", "email", "display_name", "sign_in", "password"})


@pytest.mark.parametrize("field", [*USER_COLUMNS, "role_id", *DERIVED])
def test_promise_31_a_field_that_is_not_for_writing_is_not_written(alice: User, bob: User, field: str) -> None:
    before, able = row(User, bob.pk), powers(bob)
    value = DERIVED[field] if field in DERIVED else other(User, field, before)
    if field == "last_seen_at":
        assert send(signed_in(alice, csrf=False), "PATCH", f"/api/v1/users/{bob.uid}", {field: value}) == 200
    else:
        body = {"display_name": "Robert", field: value}
        assert send(signed_in(alice, csrf=False), "PATCH", f"/api/v1/users/{bob.uid}", body) == 400
    assert row(User, bob.pk) == before
    assert powers(bob) == able


@pytest.mark.parametrize("field", [*sorted({*USER_COLUMNS} - {"username"}), "role_id", *DERIVED])
def test_promise_31_nor_when_a_user_is_created(alice: User, field: str) -> None:
    browser = signed_in(alice, csrf=False)
    assert send(browser, "POST", "/api/v1/users", {**NEW, "username": "carol"}) == 201
    carol = User.objects.get(username="carol")
    value = DERIVED[field] if field in DERIVED else other(User, field, row(User, carol.pk))
    assert send(browser, "POST", "/api/v1/users", {**NEW, "username": "dora", field: value}) == 400
    assert not User.objects.filter(username="dora").exists()


ACCOUNT_COLUMNS = columns(ServiceAccount, but={"role", "owner", "description"})


@pytest.mark.parametrize("field", [*ACCOUNT_COLUMNS, "role_id", "owner_id"])
def test_promise_31_a_service_account_takes_no_fields_but_those_named(
    alice: User, bob: User, pipeline: ServiceAccount, field: str
) -> None:
    before = row(ServiceAccount, pipeline.pk)
    body = {"description": "Builds", field: other(ServiceAccount, field, before)}
    assert send(signed_in(alice, csrf=False), "PATCH", f"/api/v1/service-accounts/{pipeline.uid}", body) == 400
    assert row(ServiceAccount, pipeline.pk) == before


@pytest.mark.parametrize("field", columns(Token, but={"name"}))
def test_promise_31_nor_does_a_token(alice: User, pipeline: ServiceAccount, field: str) -> None:
    ServiceAccountFactory(name="another")
    path = f"/api/v1/service-accounts/{pipeline.uid}/tokens"
    browser = signed_in(alice, csrf=False)
    assert send(browser, "POST", path, {"name": "nightly"}) == 201
    plain = row(Token, Token.objects.get().pk)
    forged = other(Token, field, plain)
    assert send(browser, "POST", path, {"name": "nightly", field: forged}) == 400
    assert Token.objects.count() == 1
