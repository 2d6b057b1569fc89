"""Every error is a problem (RFC 9457), and temporary failures are 503."""

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import IntegrityError, OperationalError, connection
from django.http import UnreadablePostError
from django.test import Client

from accounts.models import User
from audit.models import Entry
from authn import identify, passwords
from authn.credentials import Basic
from authn.provider_keys import KeysUnavailable
from rbac.models import Role
from rbac.principals import Kind
from tests.api import api_client
from tests.api.api_client import BASE, Api


@pytest.mark.parametrize(
    "path", ["/nothing", "/users/", "/users/%00", "/users/me", "/roles/a%00b", "/audit-events/x", "/audit-events/" + "9" * 30]
)
def test_an_unknown_path_is_a_404_problem(as_alice: Api, path: str) -> None:
    api_client.problem(as_alice.get(path), 404, "not-found")


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/api/v1", "Its index ends with a slash: /api/v1/"),
        ("/api/v1/users/", "Leave out the slash at the end. The index: /api/v1/"),
        ("/api/v1/user", "If the path is right, a name or id in it cannot exist. The index: /api/v1/"),
        ("/api/v1/roles/Ops", "If the path is right, a name or id in it cannot exist. The index: /api/v1/"),
        ("/api/v1/policy/decisions/short", "If the path is right, a name or id in it cannot exist. The index: /api/v1/"),
    ],
)
def test_the_404_of_an_unknown_path_says_what_to_check(as_alice: Api, path: str, hint: str) -> None:
    assert api_client.problem(as_alice.client.get(path), 404)["detail"] == f"The API has no such path. {hint}"


def test_a_host_that_is_not_served_is_named_with_the_setting(as_alice: Api) -> None:
    result = api_client.problem(as_alice.client.get(f"{BASE}/users", headers={"host": "evil.example"}), 400, "invalid")
    assert result["detail"] == (
        "SkyAuth does not serve the host 'evil.example'. Use the host of PUBLIC_URL, or add this one to ALLOWED_HOSTS."
    )


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/v2/users", "/api/v1"])
def test_an_unknown_path_outside_of_the_version_is_a_404_problem(as_alice: Api, path: str) -> None:
    api_client.problem(as_alice.client.get(path), 404, "not-found")


def test_a_write_to_an_unknown_path_without_a_csrf_token_is_a_404_problem(alice: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(alice)
    api_client.problem(Api(browser).post("/nothing", {}), 404, "not-found")


@pytest.mark.parametrize(
    "path",
    ["/users/00000000", "/service-accounts/sa-0", "/service-accounts/sa-0/tokens", "/roles/none", "/routes/7", "/group-roles/7"],
)
def test_a_missing_object_is_a_404_problem(as_alice: Api, path: str) -> None:
    api_client.problem(as_alice.get(path), 404, "not-found")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_an_unsupported_method_is_405_with_the_allowed_ones(as_alice: Api, method: str) -> None:
    response = as_alice.request(method, "/users")
    api_client.problem(response, 405, "method-not-allowed")
    assert response.headers["Allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "JSON parse error"),
        (b'{"username": NaN}', "JSON parse error"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe", "JSON parse error"),
        (b'{"username": ' + b"9" * 5_000 + b"}", "JSON parse error"),
    ],
    ids=["truncated", "not a number", "deep", "not UTF-8", "long number"],
)
def test_what_is_not_json_is_400(as_alice: Api, body: bytes, says: str) -> None:
    result = api_client.problem(as_alice.post("/users", body), 400)
    assert says in result["detail"]


@pytest.mark.parametrize("body", [[], "text", 7, None, [{"username": "x"}]])
def test_json_that_is_no_object_is_400(as_alice: Api, body: Any) -> None:
    result = api_client.problem(as_alice.post("/users", json.dumps(body).encode()), 400, "invalid")
    assert result["detail"] == "The body is not a JSON object. Send one, such as {}."
    assert "errors" not in result


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"], ids=["NUL", "half a surrogate pair"])
@pytest.mark.parametrize(
    ("path", "field", "rest"),
    [
        ("/users", "display_name", {"username": "new@example.com"}),
        ("/users", "username", {}),
        ("/users", "password", {"username": "new@example.com"}),
        ("/users/import", "csv", {}),
        ("/roles", "description", {"name": "new"}),
        ("/roles", "name", {}),
        ("/routes", "path", {"methods": ["GET"], "permission": "upstream:read"}),
        ("/group-roles", "group", {"role": "user"}),
        ("/service-accounts", "description", {"name": "new"}),
        ("/policy/explain", "who", {"method": "GET", "path": "/"}),
    ],
)
def test_text_that_no_database_stores_is_400(as_alice: Api, text: str, path: str, field: str, rest: dict[str, Any]) -> None:
    result = api_client.problem(as_alice.post(path, {field: text, **rest}), 400, "invalid")
    assert field in result["errors"]


@pytest.mark.parametrize("query", ["role", "search", "sign_in"])
def test_a_nul_in_a_filter_is_400(as_alice: Api, query: str) -> None:
    api_client.problem(as_alice.get("/users", **{query: "a\x00b"}), 400, "invalid")


def test_a_nul_in_the_heir_is_400(as_alice: Api, bob: Any) -> None:
    api_client.problem(as_alice.delete(f"/users/{bob.uid}?transfer_to=%00"), 400, "invalid")


@pytest.mark.parametrize("media_type", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"])
def test_media_types_that_a_form_can_send_are_415(as_alice: Api, media_type: str) -> None:
    response = as_alice.client.post(f"{BASE}/users", "username=new", content_type=media_type)
    result = api_client.problem(response, 415, "unsupported-media-type")
    assert result["detail"].endswith("Send the body as Content-Type: application/json.")


def test_the_415_of_an_import_names_both_media_types(as_alice: Api) -> None:
    response = as_alice.client.post(f"{BASE}/users/import", b"username\n", content_type="application/octet-stream")
    detail = api_client.problem(response, 415)["detail"]
    assert detail.endswith("Send the body as Content-Type: application/json or text/csv.")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "x-unknown", "gzip, identity"])
def test_a_compressed_body_is_415(as_alice: Api, coding: str) -> None:
    packed = gzip.compress(b'{"username": "new@example.com"}')
    for path in ("/users", "/users/import"):
        result = api_client.problem(as_alice.post(path, packed, content_encoding=coding), 415, "unsupported-media-type")
        assert result["detail"] == "Compressed bodies are not read. Send the body without Content-Encoding."
    assert as_alice.post("/users", {"username": "new@example.com"}, content_encoding="Identity").status_code == 201


def test_an_empty_accept_header_accepts_everything(as_alice: Api) -> None:
    for accept in ("", " , "):
        assert as_alice.client.get(f"{BASE}/users", headers={"accept": accept}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({"origin": "https://evil.example"}, "A page of another origin must not change anything here."),
        ({"sec_fetch_site": "cross-site"}, "A page of another site must not change anything here."),
    ],
)
def test_the_403_of_another_origin_says_so_also_in_the_audit_log(
    alice: User, bob: User, headers: dict[str, str], detail: str
) -> None:
    alice_by_password = api_client.basic(alice.username, **headers)
    assert (
        api_client.problem(alice_by_password.patch(f"/users/{bob.uid}", {"active": False}), 403, "forbidden")["detail"] == detail
    )
    assert Entry.objects.get(event="request.denied").reason == detail
    assert User.objects.get(pk=bob.pk).is_active


def test_an_unsupported_accept_header_is_406(as_alice: Api) -> None:
    response = as_alice.client.get(f"{BASE}/users", headers={"accept": "image/png"})
    result = api_client.problem(response, 406, "not-acceptable")
    assert result["detail"] == "Accept excludes every media type of this operation. Send Accept: application/json."


def test_an_error_is_a_problem_also_if_the_client_accepts_csv_or_yaml(as_pipeline: Api, pipeline: Any) -> None:
    Role.objects.filter(name="user").update(permissions=[])
    csv = as_pipeline.client.get(f"{BASE}/users/export", headers={"accept": "text/csv"})
    api_client.problem(csv, 403, "forbidden")
    api_client.problem(api_client.nobody().get("/openapi.yaml"), 401)
    api_client.problem(api_client.nobody().get("/docs"), 401)


def test_a_body_that_is_too_large_is_413(as_alice: Api, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000
    api_client.problem(as_alice.post("/users", {"username": "x" * 2_000}), 413, "too-large")


def test_a_csv_file_that_is_too_large_is_413(as_alice: Api) -> None:
    api_client.problem(as_alice.csv("/users/import", b"x" * 5_000_010), 413, "too-large")


def test_errors_are_listed_by_field(as_alice: Api) -> None:
    result = api_client.problem(as_alice.post("/users/bulk-role", {"uids": ["a", ["b"]]}), 400, "invalid")
    assert set(result["errors"]) == {"uids.1", "role"}


def test_a_denial_of_an_authenticated_caller_is_recorded(as_bob: Api) -> None:
    api_client.problem(as_bob.post("/roles", {"name": "x"}), 403)
    entry = Entry.objects.get(event="request.denied")
    assert (entry.actor, entry.target) == ("bob@example.com", "POST /api/v1/roles")
    assert "roles:write" in entry.reason


def test_a_401_is_not_recorded_as_a_denial(db: None) -> None:
    api_client.problem(api_client.nobody().post("/roles", {"name": "x"}), 401)
    assert not Entry.objects.filter(event="request.denied").exists()


def test_the_shared_credential_is_valid_and_cannot_use_the_api(db: None, settings: Any) -> None:
    settings.AUTH_STRING = f"team:{_bcrypt('sharedpassword')}"
    assert identify.identify(Basic("team", "sharedpassword"), client="").kind is Kind.SHARED
    api_client.problem(api_client.basic("team", "sharedpassword").get("/whoami"), 401)


def _bcrypt(password: str) -> str:
    import bcrypt

    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def _failing(table: str) -> Callable[..., Any]:
    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if f'FROM "{table}"' in sql:
            raise OperationalError("database is locked")
        return execute(sql, params, many, context)

    return wrapper


@pytest.mark.parametrize("table", ["audit_entry", "accounts_session"], ids=["in the view", "before the view"])
def test_a_database_that_does_not_answer_is_503(as_alice: Api, table: str) -> None:
    with connection.execute_wrapper(_failing(table)):
        api_client.problem(as_alice.get("/audit-events"), 503, "unavailable")
    assert as_alice.get("/audit-events").status_code == 200


@pytest.mark.parametrize("trouble", [passwords.Busy("full"), KeysUnavailable("down")])
def test_other_temporary_failures_are_503(as_alice: Api, monkeypatch: pytest.MonkeyPatch, trouble: Exception) -> None:
    def raising(*args: Any, **kwargs: Any) -> None:
        raise trouble

    monkeypatch.setattr("rbac.explain.role_table", raising)
    api_client.problem(as_alice.get("/policy/explain", method="GET", path="/"), 503, "unavailable")


@pytest.mark.parametrize(
    ("trouble", "status", "code"),
    [
        (IntegrityError("UNIQUE constraint failed"), 409, "conflict"),
        (SuspiciousOperation("odd"), 400, "malformed"),
        (UnreadablePostError("gone"), 400, "malformed"),
        (PermissionDenied(), 403, "forbidden"),
        (ZeroDivisionError("secret7"), 500, "internal-error"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exceptions_of_django_are_problems_too(
    as_alice: Api, monkeypatch: pytest.MonkeyPatch, trouble: Exception, status: int, code: str
) -> None:
    def raising(*args: Any, **kwargs: Any) -> None:
        raise trouble

    monkeypatch.setattr("rbac.explain.role_table", raising)
    response = as_alice.post("/policy/explain", {"method": "GET", "path": "/"})
    api_client.problem(response, status, code)
    assert b"secret7" not in response.content


def test_an_unpaired_surrogate_in_a_list_is_reported_with_its_index(as_alice: Api) -> None:
    result = api_client.problem(as_alice.post("/roles", {"name": "new", "permissions": ["upstream:read", "\ud800"]}), 400)
    assert set(result["errors"]) == {"permissions.1"}
