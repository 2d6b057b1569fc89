"""Service accounts through the SkyPilot API: several tokens of one account, who sees which, and when they expire."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.identifiers import user_uid
from accounts.models import ServiceAccount, Token, User
from accounts.services import tokens
from audit.models import Entry
from core.errors import Conflict
from rbac import principals
from rbac.models import Role
from tests import skypilot_client
from tests.factories import UserFactory, make_token
from tests.skypilot_client import Sky

BASE = "/users/service-account-tokens"


def detail(response: Any, status: int) -> Any:
    assert response.status_code == status, response.content
    return json.loads(response.content)["detail"]


def done(response: Any) -> Any:
    assert response.status_code == 200, response.content
    return json.loads(response.content)


def days_left(body: dict[str, Any]) -> int:
    return round((body["expires_at"] - timezone.now().timestamp()) / 86_400)


def test_each_token_of_an_account_is_a_row_and_is_deleted_alone(as_bob: Sky, pipeline: ServiceAccount) -> None:
    first, one = make_token(pipeline, name="first")
    second, two = make_token(pipeline, name="second")
    rows = done(as_bob.get(BASE))
    assert [(row["token_id"], row["token_name"], row["service_account_name"]) for row in rows] == [
        (second.key_id, "second", "pipeline"),
        (first.key_id, "first", "pipeline"),
    ]
    done(as_bob.post(f"{BASE}/delete", {"token_id": first.key_id}))
    assert [row["token_id"] for row in done(as_bob.get(BASE))] == [second.key_id]
    assert skypilot_client.bearer(one).get("/users/role").status_code == 401
    assert skypilot_client.bearer(two).get("/users/role").status_code == 200
    done(as_bob.post(f"{BASE}/delete", {"token_id": second.key_id}))
    assert not ServiceAccount.objects.exists()
    assert not Token.objects.exists()


def test_behind_skyauth_the_id_of_an_account_is_the_one_that_the_server_stores_with_clusters(
    as_alice: Sky, as_bob: Sky, pipeline: ServiceAccount, settings: Any
) -> None:
    token, secret = make_token(pipeline)
    [row] = done(as_bob.get(BASE))
    assert row["service_account_user_id"] == pipeline.uid
    settings.SKYPILOT_URL = "http://127.0.0.1:9"
    server_id = user_uid(f"pipeline@{pipeline.uid}")
    [row] = done(as_bob.get(BASE))
    assert row["service_account_user_id"] == server_id
    assert done(as_bob.post(f"{BASE}/get-role", {"token_id": token.key_id}))["service_account_user_id"] == server_id
    assert done(skypilot_client.bearer(secret).get("/users/role"))["id"] == server_id
    for uid in (pipeline.uid, server_id):
        for role in ("viewer", "user"):
            done(as_alice.post("/users/update", {"user_id": uid, "role": role}))
            pipeline.refresh_from_db()
            assert pipeline.role.name == role
    ServiceAccount.objects.update(upstream_uid="")  # as an older version inserts it
    done(as_alice.post("/users/update", {"user_id": server_id, "role": "viewer"}))
    assert detail(as_alice.post("/users/update", {"user_id": "00000000", "role": "user"}), 400) == "User 00000000 does not exist"


def test_the_id_of_a_rotated_token_stands_for_its_successor(as_bob: Sky, pipeline: ServiceAccount) -> None:
    token, _ = make_token(pipeline)
    new = done(as_bob.post(f"{BASE}/rotate", {"token_id": token.key_id}))
    newest = done(as_bob.post(f"{BASE}/rotate", {"token_id": token.key_id}))
    assert len({token.key_id, new["token_id"], newest["token_id"]}) == 3
    assert [row["token_id"] for row in done(as_bob.get(BASE))] == [newest["token_id"]]
    done(as_bob.post(f"{BASE}/delete", {"token_id": token.key_id}))
    assert skypilot_client.bearer(newest["token"]).get("/users/role").status_code == 401


def test_a_token_that_was_rotated_meanwhile_is_not_taken_for_its_successor(pipeline: ServiceAccount) -> None:
    system = principals.system("tests")
    seen, _ = make_token(pipeline)
    tokens.rotate_token(actor=system, token=seen)
    with pytest.raises(Conflict, match="already revoked or rotated"):
        tokens.retire_token(actor=system, token=seen)
    assert ServiceAccount.objects.exists()


def test_a_revoked_token_is_not_listed(as_bob: Sky, pipeline: ServiceAccount) -> None:
    token, _ = make_token(pipeline)
    tokens.revoke_token(actor=principals.system("tests"), token=token)
    assert done(as_bob.get(BASE)) == []
    assert detail(as_bob.post(f"{BASE}/get-role", {"token_id": token.key_id}), 404) == "Token not found"


def test_a_token_that_was_rotated_with_an_overlap_is_listed_until_the_end_of_it(as_bob: Sky, pipeline: ServiceAccount) -> None:
    token, _ = make_token(pipeline)
    tokens.rotate_token(actor=principals.system("tests"), token=token, grace=60)
    assert len(done(as_bob.get(BASE))) == 2
    Token.objects.filter(pk=token.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert len(done(as_bob.get(BASE))) == 1


def test_an_expired_token_is_listed_and_its_successor_is_valid(as_bob: Sky, pipeline: ServiceAccount) -> None:
    token, _ = make_token(pipeline, days=-1)
    (row,) = done(as_bob.get(BASE))
    assert row["expires_at"] < timezone.now().timestamp()
    body = done(as_bob.post(f"{BASE}/rotate", {"token_id": token.key_id}))
    assert days_left(body) == 30
    assert skypilot_client.bearer(body["token"]).get("/users/role").status_code == 200


@pytest.mark.parametrize(("days", "left"), [(90.5, 90), (0.2, 1), (None, None)])
def test_a_successor_is_valid_for_the_days_that_were_left(as_bob: Sky, pipeline: ServiceAccount, days: Any, left: Any) -> None:
    token, _ = make_token(pipeline, days=days)
    body = done(as_bob.post(f"{BASE}/rotate", {"token_id": token.key_id}))
    assert (body["expires_at"] if left is None else days_left(body)) == left


def test_no_token_is_valid_longer_than_the_maximum(as_bob: Sky, pipeline: ServiceAccount, settings: Any) -> None:
    never, _ = make_token(pipeline, days=None)
    long, _ = make_token(pipeline, days=300)
    settings.TOKEN_MAX_DAYS = 90
    for body in ({"token_name": "x", "expires_in_days": None}, {"token_name": "x", "expires_in_days": 0}):
        assert detail(as_bob.post(BASE, body), 400) == "Tokens are valid for at most 90 days (TOKEN_MAX_DAYS)."
    assert detail(as_bob.post(f"{BASE}/rotate", {"token_id": never.key_id}), 400).startswith(
        "Tokens are valid for at most 90 days"
    )
    assert days_left(done(as_bob.post(f"{BASE}/rotate", {"token_id": long.key_id}))) == 90
    assert days_left(done(as_bob.post(BASE, {"token_name": "x"}))) == 30


def test_while_service_accounts_are_disabled_none_is_created(as_bob: Sky, settings: Any) -> None:
    settings.ENABLE_SERVICE_ACCOUNTS = False
    assert "are disabled" in detail(as_bob.post(BASE, {"token_name": "x"}), 409)
    assert not ServiceAccount.objects.exists()


@pytest.mark.parametrize("name", ["bob@example.com", "pipeline", "PIPELINE"])
def test_a_name_is_unique(as_bob: Sky, pipeline: ServiceAccount, name: str) -> None:
    UserFactory(username="person")
    expected = "person" if "@" in name else name
    assert "already exists" in detail(as_bob.post(BASE, {"token_name": expected}), 400)


def test_a_name_is_stored_in_lower_case(as_bob: Sky) -> None:
    assert done(as_bob.post(BASE, {"token_name": " CI_1 "}))["token_name"] == "ci_1"


def test_promise_11_a_token_is_shown_once_and_stored_nowhere(as_bob: Sky) -> None:
    body = done(as_bob.post(BASE, {"token_name": "ci"}))
    listed = as_bob.get(BASE)
    assert body["token"].encode() not in listed.content
    assert body["token"] not in str(list(Entry.objects.values()))
    assert {e.event for e in Entry.objects.all()} >= {"service-account.created", "token.issued"}


def test_without_a_role_a_token_is_not_an_admins_even_if_admin_is_the_default(as_alice: Sky, settings: Any) -> None:
    settings.RBAC_DEFAULT_ROLE = "admin"
    body = done(as_alice.post(BASE, {"token_name": "ci"}))
    assert done(skypilot_client.bearer(body["token"]).get("/users/role"))["role"] == "user"


def test_the_listed_role_is_limited_by_the_owners_role(as_alice: Sky, bob: User, pipeline: ServiceAccount) -> None:
    token, plaintext = make_token(pipeline)
    bob.role = Role.objects.get(name="viewer")
    bob.save()
    (row,) = done(as_alice.get(BASE))
    assert row["service_account_roles"] == ["viewer"]
    assert done(as_alice.post(f"{BASE}/get-role", {"token_id": token.key_id}))["roles"] == ["viewer"]
    assert done(skypilot_client.bearer(plaintext).get("/users/role"))["role"] == "viewer"


def test_a_caller_who_can_read_all_tokens_sees_them_and_changes_none(pipeline: ServiceAccount) -> None:
    token, _ = make_token(pipeline)
    permissions = ["service-accounts:read", "service-accounts:own", "upstream:write"]
    reader = skypilot_client.session(UserFactory(role=Role.objects.create(name="auditor", permissions=permissions)))
    assert [row["token_id"] for row in done(reader.get(BASE))] == [token.key_id]
    for path in ("delete", "rotate", "update-role"):
        response = reader.post(f"{BASE}/{path}", {"token_id": token.key_id, "role": "viewer"})
        assert "owned by other users" in detail(response, 403)


def test_a_token_creates_tokens_for_its_owner(as_pipeline: Sky, bob: User) -> None:
    body = done(as_pipeline.post(BASE, {"token_name": "child"}))
    assert body["creator_user_id"] == bob.uid
    assert ServiceAccount.objects.get(name="child").owner == bob


def test_a_token_of_an_unowned_account_creates_none(db: None) -> None:
    token = make_token(
        ServiceAccount.objects.create(name="lone", uid="sa-1", created_by="x", role=Role.objects.get(name="user"))
    )[1]
    assert "that you own" in detail(skypilot_client.bearer(token).post(BASE, {"token_name": "x"}), 403)
