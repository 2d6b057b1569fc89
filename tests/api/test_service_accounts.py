"""Service accounts and tokens: which ones a caller can see and change, and that a token is shown once."""

import logging
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import ServiceAccount, Token, User
from audit.models import Entry
from rbac.models import Role
from tests.api import api_client
from tests.api.api_client import BASE, Api
from tests.factories import ServiceAccountFactory, make_token

SHOWN = {
    "key_id",
    "name",
    "state",
    "created_by",
    "created_at",
    "expires_at",
    "revoked_at",
    "replaced_by",
    "last_used_at",
    "last_used_from",
}


@pytest.fixture
def alices(alice: User) -> ServiceAccount:
    """Alice's service account, with the role admin."""
    return ServiceAccountFactory(name="backup", owner=alice, role=Role.objects.get(name="admin"))


def tokens(account: ServiceAccount) -> str:
    return f"/service-accounts/{account.uid}/tokens"


def test_a_new_account_belongs_to_its_creator(as_bob: Api, bob: User) -> None:
    response = as_bob.post("/service-accounts", {"name": "Deploy", "description": "Ships.", "role": "viewer"})
    assert response.status_code == 201
    result = response.json()
    assert set(result) == {
        "uid",
        "name",
        "upstream_name",
        "description",
        "role",
        "owner",
        "owner_name",
        "active",
        "created_by",
        "created_at",
    }
    assert (result["name"], result["role"], result["owner"], result["created_by"]) == ("deploy", "viewer", bob.uid, bob.username)
    assert result["upstream_name"] == f"deploy@{result['uid']}"
    assert as_bob.client.get(response.headers["Location"]).json() == result


def test_an_admin_creates_an_account_for_another_user_or_without_an_owner(as_alice: Api, bob: User) -> None:
    body = {"name": "deploy", "role": "user", "owner": bob.uid}
    assert as_alice.post("/service-accounts", body).json()["owner_name"] == "bob@example.com"
    assert as_alice.post("/service-accounts", {"name": "backup", "owner": None}).json()["owner"] is None
    result = api_client.problem(as_alice.post("/service-accounts", {"name": "x1", "owner": "ffffffff"}), 400)
    assert "owner" in result["errors"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "sa-x"}, 400),
        ({"name": "two words"}, 400),
        ({"name": "pipeline"}, 409),
        ({"name": "x1", "role": "none"}, 400),
        ({"name": "x1", "role": "admin"}, 403),
        ({"name": "x1", "owner": None}, 403),
        ({"name": "x1", "description": "x" * 201}, 400),
    ],
    ids=str,
)
def test_an_invalid_account_is_an_error(as_bob: Api, pipeline: ServiceAccount, body: dict[str, Any], status: int) -> None:
    api_client.problem(as_bob.post("/service-accounts", body), status)
    assert ServiceAccount.objects.count() == 1


def test_read_only_fields_change_nothing(as_bob: Api, pipeline: ServiceAccount) -> None:
    before = ServiceAccount.objects.values().get(pk=pipeline.pk)
    forged = {"uid": "sa-0", "name": "other", "is_active": False, "created_by": "x", "owner_id": 1, "owner_name": "x"}
    result = api_client.problem(as_bob.patch(f"/service-accounts/{pipeline.uid}", {**forged, "description": "New."}), 400)
    assert set(result["errors"]) == set(forged)
    assert ServiceAccount.objects.values().get(pk=pipeline.pk) == before


def test_the_tokens_of_a_disabled_account_are_rejected_immediately(
    as_bob: Api, as_pipeline: Api, pipeline: ServiceAccount
) -> None:
    assert as_pipeline.get("/whoami").status_code == 200
    assert as_bob.patch(f"/service-accounts/{pipeline.uid}", {"active": False}).json()["active"] is False
    api_client.problem(as_pipeline.get("/whoami"), 401)


def test_accounts_of_others_look_absent(as_bob: Api, as_pipeline: Api, alices: ServiceAccount, pipeline: Any) -> None:
    key_id = make_token(alices)[0].key_id
    for api in (as_bob, as_pipeline):
        assert [row["name"] for row in api.get("/service-accounts").json()["results"]] == ["pipeline"]
        for method, path in [
            ("GET", f"/service-accounts/{alices.uid}"),
            ("PATCH", f"/service-accounts/{alices.uid}"),
            ("DELETE", f"/service-accounts/{alices.uid}"),
            ("GET", tokens(alices)),
            ("POST", tokens(alices)),
            ("GET", f"{tokens(alices)}/{key_id}"),
            ("POST", f"{tokens(alices)}/{key_id}/rotate"),
            ("POST", f"{tokens(alices)}/{key_id}/revoke"),
            ("POST", f"{tokens(pipeline)}/{key_id}/rotate"),
            ("POST", f"{tokens(pipeline)}/{key_id}/revoke"),
        ]:
            api_client.problem(api.request(method, path, {} if method != "GET" else None), 404, "not-found")
    assert Token.objects.get(key_id=key_id).state() == "active"


def test_an_account_cannot_get_more_permissions_than_the_caller(as_bob: Api, as_pipeline: Api, pipeline: ServiceAccount) -> None:
    for api in (as_bob, as_pipeline):
        api_client.problem(api.patch(f"/service-accounts/{pipeline.uid}", {"role": "admin"}), 403, "forbidden")
    pipeline.refresh_from_db()
    assert pipeline.role.name == "user"


def test_a_new_token_is_valid_and_shown_once(
    as_bob: Api, as_alice: Api, pipeline: ServiceAccount, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    response = as_bob.post(tokens(pipeline), {"days": 7, "name": "ci"})
    assert response.status_code == 201
    assert response.headers["Cache-Control"] == "no-store"
    result = response.json()
    plaintext = result.pop("token")
    assert set(result) == SHOWN
    assert api_client.bearer(plaintext).get("/whoami").json()["token_key_id"] == result["key_id"]
    here = f"{tokens(pipeline)}/{result['key_id']}"
    assert response.headers["Location"] == BASE + here
    rotated = as_bob.post(f"{here}/rotate").json()["token"]
    texts = [
        as_bob.get(tokens(pipeline)).content,
        as_bob.get(here).content,
        as_bob.post(f"{here}/revoke").content,
        as_bob.get(f"/service-accounts/{pipeline.uid}").content,
        as_alice.get("/audit-events").content,
        as_alice.get("/service-accounts").content,
        repr(list(Token.objects.values())).encode(),
        repr(list(Entry.objects.values())).encode(),
        caplog.text.encode(),
    ]
    for secret in (plaintext, rotated):
        assert not [text for text in texts if secret[17:60].encode() in text]
    digests = [token.digest for token in Token.objects.all()]
    assert not [text for text in texts[:6] for digest in digests if digest.encode() in text]


def test_a_token_is_valid_for_the_requested_days(as_bob: Api, pipeline: ServiceAccount, settings: Any) -> None:
    def expires(**body: Any) -> Any:
        return as_bob.post(tokens(pipeline), body).json()["expires_at"]

    assert expires(days=0) is None
    assert datetime.fromisoformat(expires()) - timezone.now() > timedelta(days=29, hours=23)
    assert datetime.fromisoformat(expires(days=None)) - timezone.now() < timedelta(days=30)
    settings.TOKEN_MAX_DAYS = 10
    for days in (0, 11):
        result = api_client.problem(as_bob.post(tokens(pipeline), {"days": days}), 400)
        assert "days" in result["errors"]


@pytest.mark.parametrize("days", [-1, 36_501, "many", 1.5, 10**400])
def test_invalid_days_are_an_error(as_bob: Api, pipeline: ServiceAccount, days: Any) -> None:
    result = api_client.problem(as_bob.post(tokens(pipeline), {"days": days}), 400)
    assert "days" in result["errors"]
    assert not Token.objects.filter(account=pipeline).exists()


def test_a_rotated_token_is_revoked_immediately_or_after_the_grace(as_bob: Api, pipeline: ServiceAccount) -> None:
    first, old = make_token(pipeline)
    new = as_bob.post(f"{tokens(pipeline)}/{first.key_id}/rotate", {"days": 3}).json()
    api_client.problem(api_client.bearer(old).get("/whoami"), 401)
    newer = as_bob.post(f"{tokens(pipeline)}/{new['key_id']}/rotate", {"grace": 60}).json()
    for token in (new["token"], newer["token"]):
        assert api_client.bearer(token).get("/whoami").status_code == 200
    shown = as_bob.get(f"{tokens(pipeline)}/{new['key_id']}").json()
    assert (shown["replaced_by"], shown["state"]) == (newer["key_id"], "active")
    api_client.problem(as_bob.post(f"{tokens(pipeline)}/{first.key_id}/rotate"), 409, "conflict")


def test_a_revoked_token_is_rejected_immediately_and_stays_revoked(as_bob: Api, pipeline: ServiceAccount) -> None:
    row, plaintext = make_token(pipeline)
    first = as_bob.post(f"{tokens(pipeline)}/{row.key_id}/revoke").json()
    assert first["state"] == "revoked"
    api_client.problem(api_client.bearer(plaintext).get("/whoami"), 401)
    assert as_bob.post(f"{tokens(pipeline)}/{row.key_id}/revoke").json() == first


def test_a_service_account_rotates_its_own_token(as_pipeline: Api, pipeline: ServiceAccount) -> None:
    key_id = as_pipeline.get("/whoami").json()["token_key_id"]
    successor = as_pipeline.post(f"{tokens(pipeline)}/{key_id}/rotate").json()["token"]
    api_client.problem(as_pipeline.get("/whoami"), 401)
    assert api_client.bearer(successor).get("/whoami").json()["name"] == "pipeline"


def test_no_token_is_created_while_service_accounts_are_disabled(as_bob: Api, pipeline: ServiceAccount, settings: Any) -> None:
    settings.ENABLE_SERVICE_ACCOUNTS = False
    api_client.problem(as_bob.post(tokens(pipeline)), 409, "conflict")


def test_a_caller_who_can_only_read_accounts_changes_none(db: None, pipeline: ServiceAccount) -> None:
    from tests.factories import UserFactory

    reader = Role.objects.create(name="auditor", permissions=["service-accounts:read", "service-accounts:own"])
    api = api_client.session(UserFactory(username="mallory@example.com", role=reader))
    assert api.get(f"/service-accounts/{pipeline.uid}").status_code == 200
    api_client.problem(api.patch(f"/service-accounts/{pipeline.uid}", {"active": False}), 403, "forbidden")
    api_client.problem(api.post(tokens(pipeline)), 403, "forbidden")


@pytest.mark.parametrize("path", ["/service-accounts/{}", "/service-accounts/{}/tokens"])
def test_a_path_names_an_account_by_its_id_or_its_name(as_bob: Api, pipeline: ServiceAccount, path: str) -> None:
    assert as_bob.get(path.format(pipeline.name)).json() == as_bob.get(path.format(pipeline.uid)).json()
    result = api_client.problem(as_bob.get(path.format("pipelin")), 404, "not-found")
    assert result["detail"] == "There is no service account 'pipelin'."
    api_client.problem(as_bob.get(path.format("a%00b")), 404, "not-found")
