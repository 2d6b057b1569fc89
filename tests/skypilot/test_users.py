"""Users through the SkyPilot API: what SkyAuth guarantees beyond the contract."""

import json
from typing import Any

import pytest
from django.db import OperationalError

from accounts.models import ServiceAccount, SignIn, User
from audit.models import Entry
from authn import passwords
from rbac.models import Role
from tests import skypilot_client
from tests.factories import PASSWORD, UserFactory, make_token
from tests.skypilot_client import Sky

NEW = "another good passphrase"


def detail(response: Any, status: int) -> Any:
    assert response.status_code == status, response.content
    return json.loads(response.content)["detail"]


def done(response: Any) -> Any:
    assert response.status_code == 200, response.content
    return json.loads(response.content)


@pytest.fixture
def as_helpdesk(db: None) -> Sky:
    """A user who manages users and is not an admin."""
    permissions = [*Role.objects.get(name="user").permissions, "users:write"]
    helen = UserFactory(username="helen@example.com", role=Role.objects.create(name="helpdesk", permissions=sorted(permissions)))
    return skypilot_client.session(helen)


@pytest.mark.parametrize(("configured", "shown"), [("admin", "admin"), ("viewer", "viewer"), ("first-admin", "user")])
def test_the_default_role_is_the_one_that_a_new_user_gets(as_alice: Sky, settings: Any, configured: str, shown: str) -> None:
    settings.RBAC_DEFAULT_ROLE = configured
    assert as_alice.get("/users/default-role").json() == {"role": shown}
    assert as_alice.post("/users/create", {"username": "new@example.com", "password": PASSWORD}).status_code == 200
    assert {row["name"]: row["role"] for row in as_alice.get("/users").json()}["new@example.com"] == shown


def test_a_session_alone_does_not_change_the_users_password(as_bob: Sky, bob: User) -> None:
    response = as_bob.post("/users/update", {"user_id": bob.uid, "password": NEW})
    assert "current_password" in detail(response, 400)
    response = as_bob.post("/users/update", {"user_id": bob.uid, "password": NEW, "current_password": "wrong"})
    assert detail(response, 400) == "This is not your current password."
    bob.refresh_from_db()
    assert bob.check_password(PASSWORD)


def test_the_current_password_changes_it(as_bob: Sky, bob: User) -> None:
    done(as_bob.post("/users/update", {"user_id": bob.uid, "password": NEW, "current_password": PASSWORD, "role": "user"}))
    bob.refresh_from_db()
    assert bob.check_password(NEW)


def test_guesses_of_the_current_password_are_throttled_as_at_sign_in(as_bob: Sky, bob: User, settings: Any) -> None:
    for _ in range(settings.AUTH_FAILURE_LIMIT):
        as_bob.post("/users/update", {"user_id": bob.uid, "password": NEW, "current_password": "wrong"})
    response = as_bob.post("/users/update", {"user_id": bob.uid, "password": NEW, "current_password": PASSWORD})
    assert detail(response, 400) == "This is not your current password."


def test_a_set_password_enables_sign_in_by_password_on_request_and_ends_the_sessions(
    as_alice: Sky, bob: User, as_bob: Sky
) -> None:
    User.objects.filter(pk=bob.pk).update(sign_in=SignIn.SSO)
    assert {row["name"]: row["user_type"] for row in done(as_alice.get("/users"))}["bob@example.com"] == "sso"
    refused = as_alice.post("/users/update", {"user_id": bob.uid, "password": NEW})
    assert "bob@example.com signs in through single sign-on" in detail(refused, 400)
    done(as_alice.post("/users/update", {"user_id": bob.uid, "password": NEW, "sign_in": "both"}))
    assert as_bob.get("/users/role").status_code == 401
    assert done(skypilot_client.basic("bob@example.com", NEW).get("/users/role"))["name"] == "bob@example.com"


def test_password_and_role_change_together_or_not_at_all(as_helpdesk: Sky, bob: User) -> None:
    response = as_helpdesk.post("/users/update", {"user_id": bob.uid, "password": NEW, "role": "admin"})
    assert "because you lack" in detail(response, 403)
    bob.refresh_from_db()
    assert bob.check_password(PASSWORD)


def test_an_admin_needs_the_current_password_for_a_new_one_as_everybody(as_alice: Sky, alice: User) -> None:
    both = as_alice.post("/users/update", {"user_id": alice.uid, "password": NEW, "role": "user"})
    assert "two requests" in detail(both, 400)
    assert "current_password" in detail(as_alice.post("/users/update", {"user_id": alice.uid, "password": NEW}), 400)
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)
    done(as_alice.post("/users/update", {"user_id": alice.uid, "password": NEW, "current_password": PASSWORD}))
    alice.refresh_from_db()
    assert alice.check_password(NEW)


def test_promise_30_a_user_manager_grants_no_more_than_their_own_permissions(as_helpdesk: Sky, bob: User, alice: User) -> None:
    for response in (
        as_helpdesk.post("/users/update", {"user_id": bob.uid, "role": "admin"}),
        as_helpdesk.post("/users/update", {"user_id": alice.uid, "password": NEW}),
        as_helpdesk.post("/users/create", {"username": "new@example.com", "password": NEW, "role": "admin"}),
        as_helpdesk.post("/users/batch_update", {"user_ids": [bob.uid], "role": "admin"}),
        as_helpdesk.post("/users/delete", {"user_id": alice.uid}),
    ):
        assert "because you lack" in detail(response, 403)
    csv = "username,password,role\nnew@example.com,another good passphrase,admin\n"
    (error,) = done(as_helpdesk.post("/users/import", {"csv_content": csv}))["creation_errors"]
    assert "because you lack" in error
    assert list(User.objects.filter(role__name="admin")) == [alice]


@pytest.mark.parametrize("setting", ["admin", "viewer"])
def test_without_a_role_a_user_gets_the_configured_one_as_on_skypilots_server(as_alice: Sky, settings: Any, setting: str) -> None:
    settings.RBAC_DEFAULT_ROLE = setting
    done(as_alice.post("/users/create", {"username": "new@example.com", "password": NEW}))
    text = f"username,password,role\nother@example.com,{NEW},\n"
    assert done(as_alice.post("/users/import", {"csv_content": text}))["success_count"] == 1
    names = ["new@example.com", "other@example.com"]
    assert set(User.objects.filter(username__in=names).values_list("role__name", flat=True)) == {setting}


def test_without_a_role_a_user_gets_at_most_the_creators_permissions(as_helpdesk: Sky, settings: Any) -> None:
    settings.RBAC_DEFAULT_ROLE = "admin"
    done(as_helpdesk.post("/users/create", {"username": "new@example.com", "password": NEW}))
    assert User.objects.get(username="new@example.com").role.name == "helpdesk"


def test_a_custom_role_is_listed_as_the_nearest_skypilot_role_and_can_be_replaced(as_alice: Sky, as_helpdesk: Sky) -> None:
    helen = User.objects.get(username="helen@example.com")
    assert {row["name"]: row["role"] for row in done(as_alice.get("/users"))}["helen@example.com"] == "user"
    assert done(as_helpdesk.get("/users/role"))["role"] == "user"
    done(as_alice.post("/users/update", {"user_id": helen.uid, "role": "user"}))
    helen.refresh_from_db()
    assert helen.role.name == "user"


def test_a_disabled_user_is_listed_with_their_role(as_alice: Sky, bob: User) -> None:
    User.objects.filter(pk=bob.pk).update(is_active=False)
    assert {row["name"]: row["role"] for row in done(as_alice.get("/users"))}["bob@example.com"] == "user"


def test_a_service_account_is_changed_and_deleted_by_its_id(as_alice: Sky, pipeline: ServiceAccount) -> None:
    make_token(pipeline)
    done(as_alice.post("/users/update", {"user_id": pipeline.uid, "role": "viewer"}))
    done(as_alice.post("/users/batch_update", {"user_ids": [pipeline.uid], "role": "user"}))
    response = as_alice.post("/users/update", {"user_id": pipeline.uid, "password": NEW})
    assert detail(response, 400) == "A service account has no password."
    pipeline.refresh_from_db()
    assert pipeline.role.name == "user"
    done(as_alice.post("/users/delete", {"user_id": pipeline.uid}))
    assert done(as_alice.get("/users/service-account-tokens")) == []


def test_the_service_accounts_of_a_deleted_user_stay_and_can_be_deleted(as_alice: Sky, bob: User, pipeline_token: str) -> None:
    done(as_alice.post("/users/delete", {"user_id": bob.uid}))
    (row,) = done(as_alice.get("/users/service-account-tokens"))
    assert (row["creator_user_hash"], row["creator_name"]) == ("", "bob@example.com")
    assert skypilot_client.bearer(pipeline_token).get("/users/role").status_code == 200
    done(as_alice.post("/users/service-account-tokens/delete", {"token_id": row["token_id"]}))
    assert skypilot_client.bearer(pipeline_token).get("/users/role").status_code == 401


def test_long_lists_are_refused(as_alice: Sky, bob: User) -> None:
    response = as_alice.post("/users/batch_update", {"user_ids": [bob.uid] * 1_001, "role": "user"})
    assert "more than 1,000 users" in detail(response, 400)
    csv = "username,password,role\n" + "x,y,user\n" * 1_001
    assert "more than 1,000 users" in detail(as_alice.post("/users/import", {"csv_content": csv}), 400)


def test_an_export_is_safe_for_spreadsheets_and_can_be_imported(as_alice: Sky) -> None:
    UserFactory(username="=cmd@example.com")
    text = done(as_alice.get("/users/export"))["csv_content"]
    assert text.split("\n")[-1] == "'=cmd@example.com,,user"
    line = "'=other@example.com,another good passphrase,viewer"
    assert done(as_alice.post("/users/import", {"csv_content": f"username,password,role\n{line}"}))["success_count"] == 1
    assert User.objects.filter(username="=other@example.com").exists()


@pytest.mark.parametrize(
    "stored",
    [
        "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        "$apr1$abc$def",
        "$6$salt$hash",
        "$argon2id$v=19$m=1,t=1,p=1$x$y",
        "argon2$argon2id$v=19$m=1,t=1,p=1$x$y",
        "pbkdf2_sha256$1000$salt$hash",
        "{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=",
    ],
)
def test_no_hash_of_any_kind_is_imported(as_alice: Sky, stored: str) -> None:
    csv = f"username,password,role\nnew@example.com,{stored.replace(',', '')},viewer\n"
    (error,) = done(as_alice.post("/users/import", {"csv_content": csv}))["creation_errors"]
    assert "The password is a hash" in error
    assert stored not in error


def test_an_invalid_line_is_reported_and_the_others_are_created(as_alice: Sky) -> None:
    csv = "username,password,role\nnew@example.com,another good passphrase,viewer\nother@example.com,short,viewer\n"
    body = done(as_alice.post("/users/import", {"csv_content": csv}))
    assert (body["success_count"], body["error_count"]) == (1, 1)
    assert "too short" in body["creation_errors"][0]
    entry = Entry.objects.get(event="user.created")
    assert (entry.actor, entry.target) == ("alice@example.com", "new@example.com")


def test_a_user_cannot_have_the_name_of_a_service_account(as_alice: Sky, pipeline: ServiceAccount) -> None:
    response = as_alice.post("/users/create", {"username": "pipeline", "password": NEW})
    assert "taken by a service account" in detail(response, 409)


@pytest.mark.parametrize("trouble", [passwords.Busy("full"), OperationalError("locked")])
def test_a_temporary_failure_is_503_without_details(as_alice: Sky, monkeypatch: pytest.MonkeyPatch, trouble: Exception) -> None:
    def raising(**kwargs: Any) -> None:
        raise trouble

    monkeypatch.setattr("accounts.services.users.create_user", raising)
    response = as_alice.post("/users/create", {"username": "new@example.com", "password": NEW})
    assert "SkyAuth cannot answer" in detail(response, 503)
    assert int(response.headers["Retry-After"]) > 0


def test_an_unexpected_exception_is_500_without_its_text(as_alice: Sky, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(**kwargs: Any) -> None:
        raise ZeroDivisionError("secret7")

    monkeypatch.setattr("accounts.services.users.create_user", raising)
    response = as_alice.post("/users/create", {"username": "new@example.com", "password": NEW})
    assert response.status_code == 500
    assert b"secret7" not in response.content


def test_a_body_that_is_too_large_is_413(as_alice: Sky, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000
    assert "larger than" in detail(as_alice.post("/users/delete", {"user_id": "x" * 2_000}), 413)


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"[" * 100_000, b'{"user_id": ' + b"9" * 5_000 + b"}"], ids=["binary", "deep", "long"]
)
def test_what_is_not_json_is_422(as_alice: Sky, body: bytes) -> None:
    assert as_alice.post("/users/delete", body).status_code == 422


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"], ids=["NUL", "half a surrogate pair"])
def test_text_that_no_database_stores_is_422(as_alice: Sky, text: str) -> None:
    (fault,) = detail(as_alice.post("/users/delete", {"user_id": text}), 422)
    assert (fault["type"], fault["loc"]) == ("string_unicode", ["body", "user_id"])


def test_no_error_repeats_a_password(as_alice: Sky) -> None:
    response = as_alice.post("/users/create", {"username": 7, "password": ["secret7"]})
    assert response.status_code == 422
    assert b"secret7" not in response.content
