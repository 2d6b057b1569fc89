"""Users, and the caller's own password."""

from typing import Any

import pytest
from django.contrib.auth.hashers import check_password

from accounts.identifiers import user_uid
from accounts.models import ServiceAccount, User
from accounts.services.users import find_user
from audit.models import Entry
from tests.api import api_client
from tests.api.api_client import Api
from tests.factories import PASSWORD, UserFactory

SHOWN = {
    "uid",
    "username",
    "email",
    "display_name",
    "role",
    "role_source",
    "sign_in",
    "active",
    "created_at",
    "last_seen_at",
}
GOOD = "another good passphrase"


def test_a_user_has_exactly_these_fields(as_bob: Api, vera: User) -> None:
    result = as_bob.get(f"/users/{vera.uid}").json()
    assert set(result) == SHOWN
    assert (result["username"], result["role"], result["active"]) == ("vera@example.com", "viewer", True)


def test_a_new_user_has_the_requested_fields_and_a_location(as_alice: Api) -> None:
    response = as_alice.post("/users", {"username": "New@Example.com", "role": "viewer", "password": GOOD})
    assert response.status_code == 201
    result = response.json()
    assert (result["username"], result["role"], result["sign_in"], result["role_source"]) == (
        "new@example.com",
        "viewer",
        "password",
        "manual",
    )
    assert as_alice.client.get(response.headers["Location"]).json() | {"warnings": []} == result
    assert api_client.basic("new@example.com", GOOD).get("/whoami").status_code == 200
    assert Entry.objects.get(event="user.created", target="new@example.com").actor == "alice@example.com"


@pytest.mark.parametrize(("sso", "warns"), [("off", True), ("plaintext", False)])
def test_a_user_who_cannot_sign_in_comes_with_a_warning(as_alice: Api, settings: Any, sso: str, warns: bool) -> None:
    settings.AUTH_USER_HEADER_FORMAT = sso
    result = as_alice.post("/users", {"username": "new@example.com"}).json()
    assert ["new@example.com" in text for text in result["warnings"]] == ([True] if warns else [])
    changed = as_alice.patch(f"/users/{result['uid']}", {"display_name": "N."}).json()
    assert bool(changed["warnings"]) is warns


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 400, "username"),
        ({"username": "two words"}, 400, "username"),
        ({"username": " blank@example.com"}, 400, "username"),
        ({"username": "sa-machine"}, 400, "username"),
        ({"username": "plain"}, 400, "username"),
        ({"username": "bob@example.com"}, 409, "username"),
        ({"username": "pipeline", "password": GOOD}, 409, "username"),
        ({"username": "new@example.com", "role": "none"}, 400, "role"),
        ({"username": "new@example.com", "password": "short"}, 400, "password"),
        ({"username": "new@example.com", "password": "password1234"}, 400, "password"),
        ({"username": "new@example.com", "email": "nobody"}, 400, "email"),
        ({"username": "new@example.com", "sign_in": "pigeon"}, 400, "sign_in"),
        ({"username": "new@example.com", "display_name": "x" * 151}, 400, "display_name"),
    ],
    ids=str,
)
def test_an_invalid_user_is_an_error_by_field(
    as_alice: Api, pipeline: ServiceAccount, body: dict[str, Any], status: int, field: str
) -> None:
    result = api_client.problem(as_alice.post("/users", body), status)
    assert field in result["errors"]
    assert not User.objects.filter(username="new@example.com").exists()


def test_a_change_affects_the_sent_fields_only(as_alice: Api, bob: User) -> None:
    response = as_alice.patch(f"/users/{bob.uid}", {"display_name": "Bob", "role": "viewer", "active": False})
    assert response.status_code == 200
    result = response.json()
    assert (result["display_name"], result["role"], result["active"], result["email"]) == (
        "Bob",
        "viewer",
        False,
        "bob@example.com",
    )


@pytest.mark.parametrize(
    "bad",
    [{"role": "none"}, {"active": None}, {"email": "nobody"}, {"sign_in": "pigeon"}, {"password": "short"}],
    ids=str,
)
def test_a_change_with_one_invalid_field_changes_nothing(as_alice: Api, bob: User, bad: dict[str, Any]) -> None:
    good: dict[str, Any] = {"display_name": "Robert", "role": "viewer", "active": False, "password": GOOD}
    before = User.objects.values().get(pk=bob.pk)
    api_client.problem(as_alice.patch(f"/users/{bob.uid}", {**good, **bad}), 400)
    assert User.objects.values().get(pk=bob.pk) == before
    assert not Entry.objects.filter(event__startswith="user.", target=bob.username).exists()


FORGED = {
    "uid": "ffffffff",
    "id": 7,
    "pk": 7,
    "is_active": False,
    "is_staff": True,
    "is_superuser": True,
    "role_source": "group",
    "created_at": "2000-01-01T00:00:00Z",
    "last_seen_at": "2000-01-01T00:00:00Z",
    "last_login": "2000-01-01T00:00:00Z",
    "permissions": ["users:write"],
}


@pytest.mark.parametrize("field", [*FORGED, "username"])
def test_read_only_fields_change_nothing(as_alice: Api, bob: User, field: str) -> None:
    before = User.objects.values().get(pk=bob.pk)
    body = {field: FORGED.get(field, "other@example.com"), "role": "viewer"}
    if field != "last_seen_at":
        api_client.problem(as_alice.patch(f"/users/{bob.uid}", body), 400, "invalid")
    else:
        assert as_alice.patch(f"/users/{bob.uid}", {field: body[field]}).status_code == 200
    assert User.objects.values().get(pk=bob.pk) == before
    if field != "username":
        api_client.problem(as_alice.post("/users", {**body, "username": "new@example.com"}), 400, "invalid")
        assert not User.objects.filter(username="new@example.com").exists()


def test_the_last_admin_cannot_be_removed(as_alice: Api, alice: User) -> None:
    for change in ({"role": "user"}, {"active": False}):
        api_client.problem(as_alice.patch(f"/users/{alice.uid}", change), 409, "conflict")
    api_client.problem(as_alice.delete(f"/users/{alice.uid}"), 409, "conflict")
    assert as_alice.get("/whoami").json()["role"] == "admin"


def test_the_accounts_of_a_deleted_user_are_transferred(as_alice: Api, bob: User, vera: User, pipeline: ServiceAccount) -> None:
    assert as_alice.delete(f"/users/{bob.uid}?transfer_to={vera.uid}").status_code == 204
    pipeline.refresh_from_db()
    assert pipeline.owner == vera


@pytest.mark.parametrize("heir", ["ffffffff", "", "{bob}", "{disabled}"])
def test_an_invalid_new_owner_is_an_error_and_deletes_nothing(as_alice: Api, bob: User, heir: str) -> None:
    uid = heir.format(bob=bob.uid, disabled=UserFactory(is_active=False).uid)
    result = api_client.problem(as_alice.delete(f"/users/{bob.uid}?transfer_to={uid}"), 400)
    assert "transfer_to" in result["errors"]
    assert User.objects.filter(pk=bob.pk).exists()


def test_a_bulk_change_reports_the_result_for_each_user(as_alice: Api, alice: User, bob: User, vera: User) -> None:
    uids = [bob.uid, "ffffffff", alice.uid, vera.uid]
    result = as_alice.post("/users/bulk-role", {"uids": uids, "role": "user"}).json()
    assert result["succeeded"] == [bob.uid, vera.uid]
    assert [failure["uid"] for failure in result["failed"]] == ["ffffffff", alice.uid]
    assert "last active admin" in result["failed"][1]["error"]
    vera.refresh_from_db()
    assert vera.role.name == "user"


def test_a_password_for_a_user_of_single_sign_on_needs_a_sign_in_method(as_alice: Api, bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(sign_in="sso")
    result = api_client.problem(as_alice.patch(f"/users/{bob.uid}", {"password": GOOD}), 400)
    assert "sign_in" in result["errors"]
    assert as_alice.patch(f"/users/{bob.uid}", {"password": GOOD, "sign_in": "both"}).json()["sign_in"] == "both"
    entry = Entry.objects.get(event="user.password-changed")
    assert entry.data == {"old": {"sign_in": "sso"}, "new": {"sign_in": "both"}}


def test_changing_the_own_password_needs_the_current_one(as_bob: Api, bob: User) -> None:
    wrong = {"current_password": "a wrong passphrase", "password": GOOD}
    result = api_client.problem(as_bob.post("/users/me/password", wrong), 400)
    assert "current_password" in result["errors"]
    assert as_bob.post("/users/me/password", {"current_password": PASSWORD, "password": GOOD}).status_code == 204
    bob.refresh_from_db()
    assert check_password(GOOD, bob.password)
    api_client.problem(as_bob.get("/whoami"), 401)  # the session has ended with the old password


def test_whoami_returns_the_caller(as_bob: Api, as_pipeline: Api, bob: User, pipeline: ServiceAccount) -> None:
    me = as_bob.get("/whoami").json()
    assert (me["kind"], me["uid"], me["name"], me["role"], me["method"], me["identity"]) == (
        "user",
        bob.uid,
        "bob@example.com",
        "user",
        "session",
        "bob@example.com",
    )
    assert me["permissions"] == sorted(bob.permissions)
    machine = as_pipeline.get("/whoami").json()
    assert (machine["kind"], machine["method"]) == ("service-account", "bearer")
    assert machine["identity"] == f"pipeline@{pipeline.uid}"
    assert machine["token_key_id"] == pipeline.tokens.get().key_id


def test_no_response_is_stored_by_caches(as_alice: Api) -> None:
    for path in ("/", "/whoami", "/users", "/users/export", "/docs", "/openapi.json"):
        assert as_alice.get(path).headers["Cache-Control"] == "no-store"


def test_the_credentials_of_a_disabled_user_are_rejected(as_bob: Api, bob: User) -> None:
    assert as_bob.get("/whoami").status_code == 200
    User.objects.filter(pk=bob.pk).update(is_active=False)
    api_client.problem(as_bob.get("/whoami"), 401)


def test_no_response_and_no_audit_entry_contains_a_password_or_a_hash(as_alice: Api) -> None:
    answers = [
        as_alice.post("/users", {"username": "new@example.com", "role": "user", "password": GOOD}),
        as_alice.get("/users"),
        as_alice.get("/users/export"),
        as_alice.get("/audit-events"),
        as_alice.post("/users", {"username": "new@example.com", "password": GOOD}),
    ]
    texts = [answer.content for answer in answers]
    assert [answer.status_code for answer in answers] == [201, 200, 200, 200, 409]
    assert all("new@example.com" in text.decode() for text in texts)
    stored = User.objects.get(username="new@example.com").password
    for text in texts:
        assert GOOD not in text.decode()
        assert stored not in text.decode()
        assert "argon2" not in text.decode()


def test_every_role_with_users_read_can_list_users(as_vera: Api) -> None:
    UserFactory()
    assert as_vera.get("/users").json()["count"] == 2


@pytest.mark.parametrize(
    ("query", "active", "blocked"),
    [
        ("", True, False),
        ("?block=true", True, True),
        ("?block=false", True, False),
        ("", False, True),
        ("?block=false", False, False),
    ],
)
def test_a_deleted_user_can_be_blocked_and_unblocked(as_alice: Api, bob: User, query: str, active: bool, blocked: bool) -> None:
    User.objects.filter(pk=bob.pk).update(is_active=active)
    assert as_alice.delete(f"/users/{bob.uid}{query}").status_code == 204
    [row] = as_alice.get("/deleted-users").json()["results"]
    assert (row["username"], row["role"], row["blocked"], row["deleted_by"]) == (
        bob.username,
        "user",
        blocked,
        "alice@example.com",
    )
    assert as_alice.patch(f"/deleted-users/{row['id']}", {}).json() == row  # nothing is to change
    changed = as_alice.patch(f"/deleted-users/{row['id']}", {"blocked": not blocked})
    assert (changed.status_code, changed.json()["blocked"]) == (200, not blocked)
    assert as_alice.get(f"/deleted-users/{row['id']}").json() == changed.json()


@pytest.mark.parametrize("value", ["yes", "1", "", "True"])
def test_an_invalid_block_is_an_error_and_deletes_nothing(as_alice: Api, bob: User, value: str) -> None:
    result = api_client.problem(as_alice.delete(f"/users/{bob.uid}?block={value}"), 400)
    assert list(result["errors"]) == ["block"]
    assert User.objects.filter(pk=bob.pk).exists()


def test_a_name_that_single_sign_on_cannot_send_is_not_blocked(as_alice: Api) -> None:
    plain = UserFactory(username="plain")
    result = api_client.problem(as_alice.delete(f"/users/{plain.uid}?block=true"), 400)
    assert "not an e-mail address" in result["detail"]
    assert User.objects.filter(pk=plain.pk).exists()


@pytest.mark.parametrize("named", ["{0.uid}", "{0.username}", "BOB@example.com"])
def test_a_user_is_named_by_id_or_name_wherever_one_is_named(
    as_alice: Api, alice: User, bob: User, vera: User, pipeline: ServiceAccount, named: str
) -> None:
    name = named.format(bob)
    assert as_alice.get(f"/users/{name}").json()["uid"] == bob.uid
    assert as_alice.patch(f"/users/{name}", {"display_name": "Bob"}).json()["uid"] == bob.uid
    body = {"uids": [name], "role": "user"}
    assert as_alice.post("/users/bulk-role", body).json() == {"succeeded": [name], "failed": []}
    body = {"owner": alice.username}
    assert as_alice.patch(f"/service-accounts/{pipeline.uid}", body).json()["owner"] == alice.uid
    assert as_alice.patch(f"/service-accounts/{pipeline.uid}", {"owner": name}).json()["owner_name"] == bob.username
    assert as_alice.post("/service-accounts", {"name": "another", "role": "viewer", "owner": name}).json()["owner"] == bob.uid
    assert as_alice.get("/service-accounts", owner=name).json()["count"] == 2
    assert as_alice.get("/policy/explain", who=name, method="GET", path="/").json()["principal"]["uid"] == bob.uid
    assert as_alice.delete(f"/users/{vera.username}?transfer_to={name}").status_code == 204
    assert as_alice.delete(f"/users/{name}").status_code == 204
    assert not User.objects.filter(pk=bob.pk).exists()


@pytest.mark.parametrize("name", ["nobody@example.com", "Nobody", "ffffffff", "a%00b", "%C3%A4", "x" * 300])
def test_an_unknown_user_is_an_error_that_says_how_users_are_named(as_alice: Api, name: str) -> None:
    assert "There is no user named" in api_client.problem(as_alice.get(f"/users/{name}"), 404, "not-found")["detail"]
    body = {"name": "another", "role": "viewer", "owner": "nobody@example.com"}
    assert set(api_client.problem(as_alice.post("/service-accounts", body), 400, "invalid")["errors"]) == {"owner"}


def test_a_name_never_takes_the_place_of_an_id(as_alice: Api, bob: User) -> None:
    body = {"username": bob.uid, "password": "a good long passphrase", "role": "viewer"}
    result = api_client.problem(as_alice.post("/users", body), 409, "conflict")
    assert result["errors"] == {"username": ["This name is the id of a user."]}
    UserFactory(username=bob.uid, sign_in="password")  # as an older version allowed
    assert as_alice.get(f"/users/{bob.uid}").json()["username"] == bob.username
    assert find_user(bob.uid) == bob


def test_an_id_never_takes_the_place_of_a_name(as_alice: Api) -> None:
    taken = user_uid("carol@example.com")
    UserFactory(username=taken, sign_in="password")
    carol = as_alice.post("/users", {"username": "carol@example.com", "role": "viewer"}).json()
    assert carol["uid"] == user_uid("carol@example.com", 1)
    assert as_alice.get(f"/users/{taken}").json()["username"] == taken


@pytest.mark.parametrize("sign_in", ["SSO", "saml"])
def test_the_error_for_an_unknown_sign_in_method_lists_the_methods(as_alice: Api, bob: User, sign_in: str) -> None:
    listed = f"{sign_in!r} is not a choice. Choose one of: password, sso, both."
    body = {"username": "new@example.com", "sign_in": sign_in}
    assert api_client.problem(as_alice.post("/users", body), 400)["errors"] == {"sign_in": [listed]}
    assert api_client.problem(as_alice.patch(f"/users/{bob.uid}", {"sign_in": sign_in}), 400)["errors"] == {"sign_in": [listed]}
    filtered = api_client.problem(as_alice.get(f"/users?sign_in={sign_in}"), 400)
    assert filtered["errors"] == {"sign_in": [f"{sign_in} is not a choice. Choose one of: password, sso, both."]}


def test_a_period_of_the_audit_log_that_ends_before_it_begins_is_an_error(as_alice: Api) -> None:
    errors = api_client.problem(as_alice.get("/audit-events?since=2026-11-30&until=2026-11-01"), 400)["errors"]
    assert errors == {"until": ["The end is before the start. Exchange since and until."]}
