"""Which caller can use which operation of the SkyPilot API: one table with every operation."""

from typing import Any

import pytest
from django.db import transaction

from accounts.models import ServiceAccount, User
from audit.models import Entry
from rbac.models import Role
from rbac.permissions import Permission
from skypilot.urls import OPERATIONS
from tests import skypilot_client
from tests.factories import PASSWORD, UserFactory, make_token
from tests.skypilot_client import PREFIX, Sky

MATRIX = """
    operation                                     alice  bob  vera  anonymous  pipeline  shared  reader  terminal
    GET  /users                                     200  200   200        401       200     401     200       200
    GET  /users/role                                200  200   200        401       200     401     200       200
    GET  /users/default-role                        200  200   403        401       200     401     403       200
    POST /users/create                              200  403   403        401       403     401     403       403
    POST /users/update                              200  403   403        401       403     401     403       403
    POST /users/batch_update                        200  403   403        401       403     401     403       403
    POST /users/delete                              200  403   403        401       403     401     403       403
    POST /users/import                              200  403   403        401       403     401     403       403
    GET  /users/export                              200  403   403        401       403     401     403       200
    GET  /users/me/workspace                        200  200   200        401       200     401     200       200
    POST /users/me/workspace                        200  200   403        401       200     401     403       200
    GET  /users/service-account-tokens              200  200   200        401       200     401     200       200
    POST /users/service-account-tokens              200  200   403        401       200     401     403       403
    POST /users/service-account-tokens/delete       200  200   403        401       200     401     403       403
    POST /users/service-account-tokens/get-role     200  200   403        401       200     401     403       403
    POST /users/service-account-tokens/update-role  200  200   403        401       200     401     403       403
    POST /users/service-account-tokens/rotate       200  200   403        401       200     401     403       403
"""
CALLERS = ("alice", "bob", "vera", "anonymous", "pipeline", "shared", "reader", "terminal")
BODIES: dict[str, Any] = {
    "/users/create": {"username": "new@example.com", "password": PASSWORD, "role": "viewer"},
    "/users/update": {"user_id": "{mallory}", "role": "user"},
    "/users/batch_update": {"user_ids": ["{mallory}"], "role": "user"},
    "/users/delete": {"user_id": "{mallory}"},
    "/users/import": {"csv_content": f"username,password,role\nnew@example.com,{PASSWORD},viewer\n"},
    "/users/me/workspace": {"preferred": None},
    "/users/service-account-tokens": {"token_name": "another"},
    "/users/service-account-tokens/delete": {"token_id": "{token}"},
    "/users/service-account-tokens/get-role": {"token_id": "{token}"},
    "/users/service-account-tokens/update-role": {"token_id": "{token}", "role": "viewer"},
    "/users/service-account-tokens/rotate": {"token_id": "{token}"},
}


def rows() -> list[tuple[str, str, dict[str, int]]]:
    header, *lines = [line.split() for line in MATRIX.splitlines() if line.strip()]
    assert header[1:] == list(CALLERS)
    return [(line[0], line[1], dict(zip(CALLERS, map(int, line[2:]), strict=True))) for line in lines]


@pytest.fixture
def callers(settings: Any, alice: User, bob: User, vera: User, pipeline_token: str) -> dict[str, Sky]:
    """The cast; a user who can read all service accounts and change none; and a CLI session of the admin."""
    settings.AUTH_STRING = "team:$2b$04$Z8LaLNaSAcaDvVq/th5ptOfR2FI2olIenWlY8FDcLPSKvpkapBW4y"
    reading = [Permission.USERS_READ, Permission.SERVICE_ACCOUNTS_READ, Permission.UPSTREAM_READ]
    reader = UserFactory(username="reader@example.com", role=Role.objects.create(name="reader", permissions=reading))
    return {
        "alice": skypilot_client.session(alice),
        "bob": skypilot_client.session(bob),
        "vera": skypilot_client.session(vera),
        "anonymous": skypilot_client.nobody(),
        "pipeline": skypilot_client.bearer(pipeline_token),
        "shared": skypilot_client.basic("team", "sharedpassword"),
        "reader": skypilot_client.session(reader),
        "terminal": skypilot_client.terminal(alice),
    }


@pytest.mark.parametrize("prefix", ["", PREFIX], ids=["plain", "below the prefix"])
@pytest.mark.parametrize(("method", "path", "expected"), rows(), ids=lambda value: value if isinstance(value, str) else "")
def test_each_caller_gets_exactly_what_the_table_says(
    method: str, path: str, expected: dict[str, int], prefix: str, callers: dict[str, Sky], pipeline: ServiceAccount
) -> None:
    mallory = UserFactory(username="mallory@example.com", role=Role.objects.get(name="viewer"))
    token, _ = make_token(pipeline)
    body = BODIES.get(path) if method == "POST" else None
    filled = _filled(body, {"{mallory}": mallory.uid, "{token}": token.key_id})
    got = {}
    for name, caller in callers.items():
        with transaction.atomic():
            got[name] = caller.request(method, prefix + path, filled).status_code
            transaction.set_rollback(True)
    assert got == expected


def _filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(item, names) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def test_the_table_names_every_operation() -> None:
    assert {(method, path) for method, path, _ in rows()} == {(o.method, f"/{o.path}") for o in OPERATIONS}


@pytest.mark.parametrize("path", [f"/{operation.path}" for operation in OPERATIONS if operation.method == "POST"])
def test_promise_36_no_write_is_made_from_a_page_of_another_site(as_alice: Sky, path: str) -> None:
    for headers in ({"origin": "https://evil.example"}, {"sec_fetch_site": "same-site"}, {"origin": "null"}):
        response = as_alice.post(path, {}, **headers)
        assert response.status_code == 403
        assert "page of another" in response.json()["detail"]
        assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("path", [f"/{operation.path}" for operation in OPERATIONS if operation.method == "POST"])
@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""])
def test_promise_36_no_write_is_made_with_a_body_that_a_form_can_send(as_alice: Sky, path: str, media_type: str) -> None:
    assert as_alice.post(path, b'{"user_id": "x"}', content_type=media_type).status_code == 422


def test_a_page_of_the_same_origin_writes_without_a_csrf_token_as_the_dashboard_does(as_alice: Sky, bob: User) -> None:
    response = as_alice.post(
        f"{PREFIX}/users/update",
        {"user_id": bob.uid, "role": "viewer"},
        origin="http://testserver",
        sec_fetch_site="same-origin",
    )
    assert (response.status_code, response.content) == (200, b"null")
    bob.refresh_from_db()
    assert bob.role.name == "viewer"


def test_a_token_can_write_from_any_origin_because_no_browser_sends_it_by_itself(pipeline_token: str) -> None:
    response = skypilot_client.bearer(pipeline_token).post(
        "/users/service-account-tokens", {"token_name": "x"}, origin="https://ci.example"
    )
    assert response.status_code == 200


def test_a_denial_of_an_authenticated_caller_is_recorded_and_a_401_is_not(as_bob: Sky) -> None:
    skypilot_client.nobody().post("/users/delete", {})
    as_bob.post("/users/delete", {})
    as_bob.post(f"{PREFIX}/users/update", {"user_id": "x", "role": "admin"})
    entries = list(Entry.objects.filter(event="request.denied").order_by("pk").values_list("actor", "target", "reason"))
    assert entries == [
        ("bob@example.com", "POST /users/delete", "Forbidden"),
        ("bob@example.com", f"POST {PREFIX}/users/update", "Only admin can update user role"),
    ]
