"""Nothing in a request is silently ignored: a field or parameter that an operation does not have is a 400 that names it."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from accounts.models import ServiceAccount, Token, User
from api.docs import openapi_document
from rbac.models import Role, Route
from tests import http_client
from tests.api import api_client
from tests.api.api_client import BASE, Api
from tests.api.test_permissions_matrix import Row, rows
from tests.api.world import BODIES, QUERIES, filled
from tests.servers import skyauth_server

OPERATIONS = pytest.mark.parametrize("row", rows(), ids=lambda row: row.operation)
RESOURCES_ONLY = [row for row in rows() if row.path not in {"/openapi.json", "/openapi.yaml", "/docs"}]
WITHOUT_BODY = [row for row in rows() if row.operation not in BODIES]


def send(api: Api, row: Row, world: dict[str, str], *, query: str = "", body: Any = None) -> Any:
    """Send the request of this row, with more in its query and with this body in the place of its own."""
    path = filled(row.path, world) + QUERIES.get(row.operation, "")
    return api.request(row.method, f"{path}{'&' if '?' in path else '?'}{query}" if query else path, body, if_match="*")


def body_of(row: Row, world: dict[str, str]) -> dict[str, Any] | None:
    body = filled(BODIES.get(row.operation), world)
    return {"order": [int(world["route"])]} if row.path == "/routes/reorder" else body


def stored() -> list[Any]:
    """Return every row that an operation of the API changes, without the times of use."""
    models = (User, ServiceAccount, Token, Role, Route)
    rows = [list(model.objects.order_by("pk").values()) for model in models]
    return [{name: value for name, value in row.items() if name != "last_seen_at"} for found in rows for row in found]


@OPERATIONS
def test_promise_48_an_unknown_parameter_is_an_error_that_names_it(row: Row, as_alice: Api, world: dict[str, str]) -> None:
    before = stored()
    response = send(as_alice, row, world, query="nonsense=1", body=body_of(row, world))
    result = api_client.problem(response, 400, "invalid")
    assert list(result["errors"]) == ["nonsense"]
    assert stored() == before


@pytest.mark.parametrize("row", RESOURCES_ONLY, ids=lambda row: row.operation)
def test_promise_48_an_unknown_field_is_an_error_that_names_it(row: Row, as_alice: Api, world: dict[str, str]) -> None:
    before = stored()
    body = {**(body_of(row, world) or {}), "nonsense": 1}
    result = api_client.problem(send(as_alice, row, world, body=body), 400, "invalid")
    assert list(result["errors"]) == ["nonsense"]
    assert stored() == before


@pytest.mark.parametrize("row", WITHOUT_BODY, ids=lambda row: row.operation)
def test_an_empty_body_is_no_error_where_none_is_needed(row: Row, as_alice: Api, world: dict[str, str]) -> None:
    for body in (b"", b"{}", b" null "):
        assert send(as_alice, row, world, body=body).status_code in {200, 201, 204, 404}, body


def parameters() -> Iterator[tuple[str, str, list[str], list[str]]]:
    """Yield each documented operation: method, path, and its parameters that are required and optional."""
    for path, methods in openapi_document()["paths"].items():
        for method, operation in methods.items():
            query = [p for p in operation.get("parameters", []) if p["in"] == "query"]
            required = [p["name"] for p in query if p.get("required")]
            yield method.upper(), path, required, [p["name"] for p in query if not p.get("required")]


@pytest.mark.parametrize(("method", "path", "required", "optional"), list(parameters()), ids=lambda value: str(value)[:60])
def test_the_error_lists_exactly_the_documented_parameters(
    as_alice: Api, world: dict[str, str], method: str, path: str, required: list[str], optional: list[str]
) -> None:
    row = next(row for row in rows() if (row.method, shape(row.path)) == (method, shape(path.removeprefix(BASE))))
    result = api_client.problem(as_alice.request(method, filled(row.path, world) + "?nonsense=1", b""), 400)
    text = result["errors"]["nonsense"][0]
    if not required + optional:
        assert text == "There is no such parameter. This operation has no parameters."
    else:
        listed = text.removeprefix("There is no such parameter. Parameters: ").removesuffix(".").split(", ")
        assert sorted(listed) == sorted(required + optional)


def shape(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


# What a person typed, and the name that the error has. A new report is one line.
MISTYPED: list[tuple[str, str, Any, str, str]] = [
    ("PATCH", "/users/{uid}", {"is_active": False}, "is_active", "There is no such field. Fields: role, active, password,"),
    ("PATCH", "/users/{uid}", {"rolle": "admin", "active": True}, "rolle", "There is no such field."),
    ("PATCH", "/users/{uid}", {"Role": "admin"}, "Role", "There is no such field."),
    ("PATCH", "/users/{uid}", {"username": "other@example.com"}, "username", "This field cannot be changed here."),
    ("PATCH", "/users/{uid}", {"uid": "ffffffff"}, "uid", "This field cannot be changed here."),
    ("PATCH", "/users/{uid}", {"role_source": "group"}, "role_source", "This field cannot be changed here."),
    ("PATCH", "/users/{uid}", {"active": "\u0660"}, "active", "valid boolean"),
    ("POST", "/users", {"username": "n@example.com", "rolle": "viewer"}, "rolle", "There is no such field."),
    ("POST", "/users", {"username": "n@example.com", "uid": "ffffffff"}, "uid", "This field cannot be set here."),
    ("POST", "/users/import", {"csv": "username\nn@example.com\n", "dry_run": True}, "dry_run", "There is no such field."),
    (
        "POST",
        "/users/import?dryrun=true",
        {"csv": "username\n"},
        "dryrun",
        "Parameters: dry_run, update.",
    ),
    ("POST", "/users/import?dry_run=yes", {"csv": "username\n"}, "dry_run", "true or false"),
    ("POST", "/users/import?dry_run=true&dry_run=false", {"csv": "username\n"}, "dry_run", "sent 2 times"),
    ("DELETE", "/users/{uid}?transferto=x", None, "transferto", "There is no such parameter. Parameters: transfer_to, block."),
    ("DELETE", "/users/{uid}", {"transfer_to": "x"}, "transfer_to", "This operation has no body."),
    ("POST", "/service-accounts/{account}/tokens", {"expires": 7}, "expires", "There is no such field. Fields: days, name."),
    ("POST", "/service-accounts/{account}/tokens", {"expires_at": None}, "expires_at", "This field cannot be set here."),
    ("POST", "/service-accounts/{account}/tokens", {"days": "\u0663"}, "days", "valid integer"),
    ("POST", "/service-accounts/{account}/tokens", {"days": "1_0"}, "days", "valid integer"),
    ("POST", "/service-accounts/{account}/tokens/{key_id}/rotate", {"grace_seconds": 60}, "grace_seconds", "days, grace."),
    ("POST", "/service-accounts/{account}/tokens/{key_id}/revoke", {"grace": 60}, "grace", "This operation has no body."),
    ("PATCH", "/service-accounts/{account}", {"owner_id": 1}, "owner_id", "There is no such field."),
    ("PATCH", "/service-accounts/{account}", {"owner_name": "x"}, "owner_name", "This field cannot be changed here."),
    ("PATCH", "/roles/{name}", {"name": "other"}, "name", "This field cannot be changed here."),
    ("PATCH", "/roles/{name}", {"permission": ["upstream:read"]}, "permission", "There is no such field."),
    ("PATCH", "/group-roles/{group}", {"group": "other"}, "group", "This field cannot be changed here."),
    ("PATCH", "/routes/{route}", {"position": 9}, "position", "This field cannot be changed here."),
    ("POST", "/routes", {**BODIES["POST /routes"], "method": "GET"}, "method", "There is no such field."),
    ("GET", "/policy/explain?principal=vera&method=GET&path=/", None, "principal", "is who now."),
    (
        "POST",
        "/policy/explain",
        {**BODIES["POST /policy/explain"], "principal": "v"},
        "principal",
        "is who now.",
    ),
    ("GET", "/policy/explain?user=vera&method=GET&path=/", None, "user", "Parameters: who, method, host, path."),
    ("GET", "/policy/explain?who=&method=GET&path=/", None, "who", "may not be blank"),
    ("GET", "/policy/explain?who=a&who=b&method=GET&path=/", None, "who", "sent 2 times"),
    ("GET", "/users?is_active=false", None, "is_active", "There is no such parameter. Parameters: search, role, active,"),
    ("GET", "/users?role=admin&role=user", None, "role", "sent 2 times"),
    ("GET", "/users?role=", None, "role", "The value is empty."),
    ("GET", "/users?page_size=", None, "page_size", "The value is empty."),
    ("GET", "/users?page_size=all", None, "page_size", "between 1 and 1,000"),
    ("GET", "/users?page_size=5000", None, "page_size", "between 1 and 1,000"),
    ("GET", "/users?page_size=\u0663", None, "page_size", "between 1 and 1,000"),
    (
        "GET",
        "/users?ordering=password",
        None,
        "ordering",
        "by: password. Fields: username, created_at, last_seen_at,",
    ),
    ("GET", "/users?ordering=role,-nam", None, "ordering", "sorted by: -nam."),
    ("GET", "/users?ordering=,", None, "ordering", "cannot be sorted by"),
    ("GET", "/users/{uid}?role=viewer", None, "role", "This operation has no parameters."),
    ("GET", "/docs?lang=de", None, "lang", "There is no such parameter. Parameters: script."),
    ("GET", "/openapi.json?format=yaml", None, "format", "This operation has no parameters."),
]


@pytest.mark.parametrize(("method", "path", "body", "name", "says"), MISTYPED)
def test_what_is_mistyped_is_an_error_that_names_it(
    as_alice: Api, world: dict[str, str], method: str, path: str, body: Any, name: str, says: str
) -> None:
    before = stored()
    response = as_alice.request(method, filled(path, world), body, if_match="*")
    result = api_client.problem(response, 400, "invalid")
    assert list(result["errors"]) == [name]
    assert says in result["errors"][name][0]
    assert not result["errors"][name][0].startswith(f"{name}: ")
    assert name in result["detail"]
    assert stored() == before


RESOURCES = ["/users/{uid}", "/service-accounts/{account}", "/roles/{name}", "/group-roles/{group}", "/routes/{route}"]


@pytest.mark.parametrize("path", RESOURCES)
def test_an_object_can_be_sent_back_as_it_was_read(as_alice: Api, world: dict[str, str], path: str) -> None:
    path = filled(path, world)
    sent = as_alice.get(path).json()
    response = as_alice.patch(path, sent, if_match="*")
    assert response.status_code == 200, response.content
    # A role or route that is written has a new version.
    assert {name for name in sent if response.json()[name] != sent[name]} <= {"version"}


# How clients write the time 2026-03-01T12:00:00.123450Z, which they read.
SPELLINGS = [
    "2026-03-01T12:00:00.123450Z",
    "2026-03-01T12:00:00.12345Z",  # Go
    "2026-03-01T12:00:00.123450+00:00",  # Python
    "2026-03-01T12:00:00.123Z",  # JavaScript
    "2026-03-01T12:00:00.1234500Z",  # C#
    "2026-03-01T14:00:00.12345+02:00",
]
OTHER_TIMES = [
    "2026-03-01T12:00:00.125Z",
    "2026-03-01T12:00:00.123450",  # without an offset
    "2026-03-01T12:00:00.123450+01:00",
    "2026-03-01",
    "",
    "now",
    None,
    1772366400,
]


@pytest.mark.parametrize(("sent", "status"), [*((text, 200) for text in SPELLINGS), *((text, 400) for text in OTHER_TIMES)])
def test_a_time_can_be_sent_back_in_the_spelling_of_the_client(
    as_alice: Api, bob: User, pipeline: ServiceAccount, sent: Any, status: int
) -> None:
    created = "2026-03-01T12:00:00.123450Z"
    for path, row in ((f"/users/{bob.uid}", bob), (f"/service-accounts/{pipeline.uid}", pipeline)):
        type(row)._default_manager.filter(pk=row.pk).update(created_at=created)
        read = as_alice.get(path).json()
        assert read["created_at"] == created
        response = as_alice.patch(path, {**read, "created_at": sent})
        assert response.status_code == status, response.content


@pytest.mark.parametrize("name", ["username", "uid", "role_source", "warnings"])
def test_only_times_have_several_spellings(as_alice: Api, bob: User, name: str) -> None:
    created = "2026-03-01T12:00:00Z"
    User.objects.filter(pk=bob.pk).update(created_at=created)
    api_client.problem(as_alice.patch(f"/users/{bob.uid}", {name: "2026-03-01T12:00:00+00:00"}), 400, "invalid")


CHANGES = [row for row in rows() if row.method != "GET"]


@pytest.mark.parametrize("row", CHANGES, ids=lambda row: row.operation)
def test_promise_48_a_condition_that_the_operation_does_not_read_is_an_error(
    row: Row, as_alice: Api, world: dict[str, str]
) -> None:
    before = stored()
    path, body = filled(row.path, world) + QUERIES.get(row.operation, ""), body_of(row, world)
    for headers in ({"if_match": '"0"'}, {"if_none_match": "*"}, {"if_match": "*", "if_none_match": '"1"'}):
        response = as_alice.request(row.method, path, body, **headers)
        assert response.status_code in {400, 412}, (headers, response.content)
    assert stored() == before
    operations = {shape(name): methods for name, methods in openapi_document()["paths"].items()}
    documented = operations[shape(BASE + row.path)][row.method.lower()].get("parameters", [])
    reads = "If-Match" in {parameter["name"] for parameter in documented}
    assert as_alice.request(row.method, path, body, if_match='"0"').status_code == (412 if reads else 400)


def test_promise_46_a_user_of_a_group_who_is_sent_back_as_read_still_loses_the_role_with_the_group(
    as_alice: Api, bob: User
) -> None:
    User.objects.filter(pk=bob.pk).update(role_source="group")
    sent = {**as_alice.get(f"/users/{bob.uid}").json(), "display_name": "Bob"}
    assert as_alice.patch(f"/users/{bob.uid}", sent).json()["role_source"] == "group"
    assert as_alice.patch(f"/users/{bob.uid}", {"role": sent["role"]}).json()["role_source"] == "manual"


def test_the_time_that_a_user_was_last_seen_can_be_out_of_date(as_alice: Api, bob: User) -> None:
    sent = {**as_alice.get(f"/users/{bob.uid}").json(), "active": False}
    User.objects.filter(pk=bob.pk).update(last_seen_at="2026-01-01T00:00:00Z")
    assert as_alice.patch(f"/users/{bob.uid}", sent).json()["active"] is False
    assert User.objects.get(pk=bob.pk).last_seen_at is not None


@pytest.mark.parametrize(
    "body",
    [b'{"active": true, "active": false}', b'{"active": false, "active": false}', b'{"active": false, "\\u0061ctive": false}'],
)
def test_promise_48_a_repeated_field_is_an_error_that_names_it(as_alice: Api, bob: User, body: bytes) -> None:
    result = api_client.problem(as_alice.patch(f"/users/{bob.uid}", body), 400, "invalid")
    assert result["errors"] == {"active": ["This field was sent 2 times. Send it once."]}
    assert User.objects.get(pk=bob.pk).is_active


def test_an_error_names_at_most_ten_fields_in_printable_text(as_alice: Api, bob: User) -> None:
    names = {f"a\n{'x' * 500}{number}": 1 for number in range(500)}
    result = api_client.problem(as_alice.patch(f"/users/{bob.uid}", names), 400, "invalid")
    assert 1 <= len(result["errors"]) <= 10
    assert all(name.isprintable() and len(name) <= 64 for name in result["errors"])
    repeated = "{" + ",".join(f'"{n % 5000}": 1' for n in range(10_000)) + "}"
    assert len(api_client.problem(as_alice.patch(f"/users/{bob.uid}", repeated.encode()), 400)["errors"]) == 10


def test_a_form_sent_to_an_operation_without_a_body_is_an_error(alice: User, world: dict[str, str], settings: Any) -> None:
    browser = Client(enforce_csrf_checks=True, raise_request_exception=False)
    browser.force_login(alice)
    browser.cookies[settings.CSRF_COOKIE_NAME] = token = "a" * 32
    path = filled(f"{BASE}/service-accounts/{{account}}/tokens/{{key_id}}/revoke", world)
    api_client.problem(browser.post(path, {"grace": "60", "csrfmiddlewaretoken": token}), 400, "invalid")
    assert Token.objects.get(key_id=world["key_id"]).revoked_at is None


def test_the_endpoints_of_skypilot_ignore_fields_that_they_do_not_have(alice: User) -> None:
    browser = Client()
    browser.force_login(alice)
    body = {"username": "carol", "password": "a good long passphrase", "role": "user", "nonsense": 1}
    response = browser.post("/users/create?nonsense=1", json.dumps(body), content_type="application/json")
    assert response.status_code == 200, response.content


@pytest.mark.e2e
def test_promise_48_a_body_in_chunks_is_read() -> None:
    with skyauth_server() as server:
        server.console("create_account", name="robot", role="admin")
        bob = server.console("create_user", name="bob@example.com", role="user")
        token = server.console("issue", account="robot")
        head = [("Authorization", f"Bearer {token}"), ("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")]
        path = f"{BASE}/users/{bob}"
        for body, status in ((b'{"nonsense": 1}', 400), (b'{"active": false}', 200)):
            chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            reply = http_client.send(server.port, http_client.encode("PATCH", path, head) + chunked)
            assert reply.status == status, reply.body
        assert reply.json["active"] is False
        for media_type, size, status in (
            ("application/json", 6_100_000, 413),
            ("text/csv", 2_700_000, 400),
            ("text/csv", 5_100_000, 413),
        ):
            names = [("Authorization", f"Bearer {token}"), ("Content-Type", media_type), ("Transfer-Encoding", "chunked")]
            chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (size, b"x" * size)
            reply = http_client.send(server.port, http_client.encode("POST", f"{BASE}/users/import", names) + chunked)
            assert reply.status == status, (media_type, size, reply.body[:300])
