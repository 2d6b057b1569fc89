"""Jobs over the REST API: which imports become one, and what their headers mean."""

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Job, Session, Token, User
from accounts.services import user_import_job
from audit.models import Entry
from tests.api import api_client
from tests.api.api_client import Api
from tests.factories import ServiceAccountFactory, make_token

FILE = "username,role\nann@example.com,user\n"
GOOD = "another good passphrase"
CSV = {"content_type": "text/csv"}


def send(api: Api, text: str = FILE, query: str = "", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.client.post(f"{api_client.BASE}/users/import{query}", text, headers=named, **CSV)


def rows(number: int, passwords: int = 0) -> str:
    lines = [f"p{n}@example.com,user,{GOOD if n < passwords else ''}" for n in range(number)]
    return "\n".join(["username,role,password", *lines])


def test_a_preference_for_an_asynchronous_response_starts_a_job(as_alice: Api) -> None:
    response = send(as_alice, Prefer="wait=10, Respond-Async; x=y")
    job = response.json()
    assert response.status_code == 202
    assert response.headers["Location"] == f"/api/v1/jobs/{job['id']}"
    assert response.headers["Preference-Applied"] == "respond-async"
    assert response.headers["Cache-Control"] == "no-store"
    ended = as_alice.get(f"/jobs/{job['id']}").json()
    assert (ended["state"], ended["kind"], ended["created_by"]) == ("done", "user-import", "alice@example.com")
    assert ended["result"] == {
        "applied": True,
        "created": ["ann@example.com"],
        "changed": [],
        "users": [{"username": "ann@example.com", "role": "user", "old_role": None}],
        "new_admins": [],
        "warnings": ended["result"]["warnings"],
    }
    assert (ended["steps"], ended["steps_done"], ended["problem"]) == (2, 2, None)
    assert Entry.objects.filter(event="user.created", actor="alice@example.com").count() == 1


def test_a_small_file_is_imported_at_once_and_a_large_one_by_a_job(as_alice: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_import_job, "SMALL_ROWS", 2)
    monkeypatch.setattr(user_import_job, "SMALL_PASSWORDS", 1)
    statuses = []
    for text in (rows(2), rows(2, passwords=1), rows(3), rows(2, passwords=2)):
        statuses.append(send(as_alice, text).status_code)
        User.objects.filter(username__startswith="p").delete()
    assert statuses == [200, 200, 202, 202]


def test_a_dry_run_never_starts_a_job(as_alice: Api) -> None:
    response = send(as_alice, query="?dry_run=true", Prefer="respond-async", Idempotency_Key="k")
    assert (response.status_code, response.json()["applied"]) == (200, False)
    assert not Job.objects.exists()


def test_invalid_lines_are_the_problem_of_the_job_as_they_are_of_a_response(as_alice: Api, bob: User) -> None:
    text = "username,role\nann@example.com,user\nbob@example.com,user\n"
    at_once = api_client.problem(send(as_alice, text), 400)
    job = as_alice.get(f"/jobs/{send(as_alice, text, Prefer='respond-async').json()['id']}").json()
    assert (job["state"], job["result"]) == ("failed", None)
    assert job["problem"] == at_once
    assert [failure["line"] for failure in job["problem"]["failures"]] == [3]
    assert not User.objects.filter(username="ann@example.com").exists()


def test_an_unreadable_file_starts_no_job(as_alice: Api) -> None:
    api_client.problem(send(as_alice, "name,role\nx,y\n", Prefer="respond-async"), 400)
    assert not Job.objects.exists()


def test_a_retry_with_the_same_key_returns_the_same_job(as_alice: Api) -> None:
    first = send(as_alice, Idempotency_Key='"8e03978e-40d5"').json()
    again = send(as_alice, Idempotency_Key="8e03978e-40d5")
    as_json = as_alice.post("/users/import", {"csv": FILE}, Idempotency_Key='"8e03978e-40d5"')
    assert again.status_code == as_json.status_code == 202
    assert {first["id"]} == {again.json()["id"], as_json.json()["id"]}
    assert Job.objects.count() == 1
    assert Entry.objects.filter(event="user.created").count() == 1


@pytest.mark.parametrize(("text", "query"), [(FILE + "ben@example.com,user\n", ""), (FILE, "?update=true")])
def test_the_same_key_with_another_file_or_other_parameters_is_an_error(as_alice: Api, text: str, query: str) -> None:
    send(as_alice, Idempotency_Key="k")
    api_client.problem(send(as_alice, text, query, Idempotency_Key="k"), 422, "idempotency-key-reused")
    assert not User.objects.filter(username="ben@example.com").exists()


def test_a_key_belongs_to_its_caller(as_alice: Api, vera: User) -> None:
    vera.role = User.objects.get(username="alice@example.com").role
    vera.save()
    first = send(as_alice, Idempotency_Key="k").json()["id"]
    assert send(api_client.session(vera), "username\nben@example.com\n", Idempotency_Key="k").json()["id"] != first


def test_a_key_is_recognized_after_the_secret_key_was_changed(as_alice: Api, settings: Any) -> None:
    token = api_client.basic("alice@example.com")
    first = send(token, Idempotency_Key="k").json()["id"]
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another secret key that is long enough for every check"
    assert send(token, Idempotency_Key="k").json()["id"] == first


@pytest.mark.parametrize("key", ["", '""', "a b", '"a', "a" * 256, "ä", 'a"b', '"\\a"'])
def test_a_malformed_key_is_an_error(as_alice: Api, key: str) -> None:
    assert "Idempotency-Key" in api_client.problem(send(as_alice, Idempotency_Key=key), 400)["errors"]
    assert not User.objects.filter(username="ann@example.com").exists()


def test_no_password_is_in_the_row_of_a_job(as_alice: Api) -> None:
    job = send(as_alice, rows(1, passwords=1), Idempotency_Key="k").json()["id"]
    assert GOOD not in repr(Job.objects.filter(pk=job).values())


def test_a_user_who_is_created_again_does_not_find_the_jobs_of_the_former_one(as_alice: Api, vera: User) -> None:
    name, uid, roles = vera.username, vera.uid, type(vera.role).objects
    role = roles.create(name="importer", permissions=["users:read", "users:write", *vera.role.permissions])
    vera.role = role
    vera.save()
    job = send(api_client.session(vera), "username,role\nann@example.com,viewer\n", Prefer="respond-async").json()["id"]
    assert api_client.session(vera).get(f"/jobs/{job}").status_code == 200
    vera.delete()
    again = User.objects.create(username=name, uid=uid, role=role)
    api_client.problem(api_client.session(again).get(f"/jobs/{job}"), 404)


def test_a_token_that_was_revoked_meanwhile_imports_nothing(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    _, token = make_token(ServiceAccountFactory(name="robot", role=alice.role))

    def revoke(**arguments: Any) -> Any:
        Token.objects.update(revoked_at=timezone.now())
        return plan(**arguments)

    plan = user_import_job.plan_import
    monkeypatch.setattr(user_import_job, "plan_import", revoke)
    job = Job.objects.get(pk=send(api_client.bearer(token), Prefer="respond-async").json()["id"])
    assert (job.state, job.problem["status"]) == ("failed", 403)
    assert "Your token was revoked" in job.problem["detail"]
    assert not User.objects.filter(username="ann@example.com").exists()


def _recreate(user: User) -> None:
    """Delete a user and create the user again: with the same id, but without the sessions."""
    name, uid, role = user.username, user.uid, user.role
    user.delete()
    User.objects.create(username=name, uid=uid, role=role)


@pytest.mark.parametrize("revoke", [lambda user: Session.objects.filter(user=user).delete(), _recreate])
def test_a_session_that_ended_meanwhile_imports_nothing(
    alice: User, monkeypatch: pytest.MonkeyPatch, revoke: Callable[[User], object]
) -> None:
    as_alice = api_client.session(alice)

    def end(**arguments: Any) -> Any:
        revoke(alice)
        return plan(**arguments)

    plan = user_import_job.plan_import
    monkeypatch.setattr(user_import_job, "plan_import", end)
    job = Job.objects.get(pk=send(as_alice, Prefer="respond-async").json()["id"])
    assert (job.state, job.problem["status"]) == ("failed", 403)
    assert "Your session ended" in job.problem["detail"]
    assert not User.objects.filter(username="ann@example.com").exists()


def test_a_basic_password_that_was_changed_meanwhile_imports_nobody(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(**arguments: Any) -> Any:
        alice.set_password(GOOD)
        alice.save(update_fields=["password"])
        return plan(**arguments)

    plan = user_import_job.plan_import
    monkeypatch.setattr(user_import_job, "plan_import", change)
    job = Job.objects.get(pk=send(api_client.basic(alice.username), Prefer="respond-async").json()["id"])
    assert (job.state, job.problem["status"]) == ("failed", 403)
    assert "Your password was changed" in job.problem["detail"]
    assert not User.objects.filter(username="ann@example.com").exists()
