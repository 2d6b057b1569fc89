"""What anybody would be answered, and why."""

from typing import Any

import pytest

from accounts.models import ServiceAccount, User
from accounts.principal_lookup import find_principal
from core.errors import Conflict, NotFound
from rbac.explain import explain
from rbac.models import Role, Route
from tests.api import api_client
from tests.api.api_client import Api
from tests.factories import UserFactory


def ask(api: Api, who: str | None, method: str = "GET", path: str = "/jobs", host: str = "") -> Any:
    body = {"method": method, "path": path, "host": host, **({} if who is None else {"principal": who})}
    return api.post("/policy/explain", body)


def test_a_grant_names_the_rule_and_the_permission(as_alice: Api, vera: User, read_write: None) -> None:
    assert ask(as_alice, "Vera@example.com").json() == {
        "allowed": True,
        "status": 200,
        "reason": "granted",
        "message": "Granted by upstream:read.",
        "standing": "good",
        "needed": "upstream:read",
        "rule": "#1 GET,HEAD,OPTIONS /** -> upstream:read",
        "roles": ["admin", "user", "viewer"],
        "principal": {"kind": "user", "uid": vera.uid, "name": "vera@example.com", "role": "viewer"},
    }


@pytest.mark.parametrize(
    ("who", "method", "path", "allowed", "status", "reason"),
    [
        ("vera@example.com", "POST", "/jobs", False, 403, "not-permitted"),
        ("bob@example.com", "POST", "/jobs", True, 200, "granted"),
        ("pipeline", "POST", "/jobs", True, 200, "granted"),
        ("anonymous", "GET", "/jobs", False, 401, "not-permitted"),
        ("anonymous", "GET", "/a/../b", False, 403, "unreadable-target"),
        ("bob@example.com", "GET", "/a//b", False, 403, "unreadable-target"),
        ("bob@example.com", "GET", "/a%2fb", False, 403, "unreadable-target"),
        ("bob@example.com", "get", "/jobs", False, 403, "unreadable-target"),
        ("bob@example.com", "GET", "jobs", False, 403, "unreadable-target"),
        ("bob@example.com", "GET", "/jobs?x=//", True, 200, "granted"),
    ],
)
def test_everybody_is_explained_as_they_would_be_answered(
    as_alice: Api,
    vera: User,
    pipeline: ServiceAccount,
    read_write: None,
    who: str,
    method: str,
    path: str,
    allowed: bool,
    status: int,
    reason: str,
) -> None:
    found = ask(as_alice, who, method, path).json()
    assert (found["allowed"], found["status"], found["reason"]) == (allowed, status, reason)


def test_the_same_can_be_asked_by_get(as_alice: Api, bob: User, read_write: None) -> None:
    query = {"principal": bob.uid, "method": "GET", "path": "/jobs"}
    response = as_alice.client.get("/api/v1/policy/explain", query_params=query)
    assert response.json() == ask(as_alice, bob.uid).json()


def test_without_a_route_nobody_is_let_through(as_alice: Api, bob: User) -> None:
    found = ask(as_alice, bob.username).json()
    assert (found["allowed"], found["reason"], found["needed"], found["rule"], found["roles"]) == (
        False,
        "no-route",
        None,
        "",
        [],
    )


def test_hosts_count_as_they_do_at_the_gate(as_alice: Api, bob: User) -> None:
    Route.objects.create(position=1, host="api.example.com", path="/**", methods=["*"], permission="upstream:read")
    for host, allowed in [
        ("api.example.com", True),
        ("API.example.com.:8443", True),
        ("other.example.com", False),
        ("", False),
        ("api.example.com/x", False),
        ("api.example.com:x", False),
    ]:
        assert ask(as_alice, bob.username, host=host).json()["allowed"] is allowed, host


def test_who_is_disabled_would_get_401_whatever_the_routes_say(
    as_alice: Api, bob: User, pipeline: ServiceAccount, read_write: None, settings: Any
) -> None:
    def standing(who: str) -> tuple[Any, ...]:
        found = ask(as_alice, who).json()
        assert "refused" in found["message"]
        assert found["needed"] == "upstream:read"
        return found["allowed"], found["status"], found["reason"], found["standing"]

    User.objects.filter(pk=bob.pk).update(is_active=False)
    assert standing("bob@example.com") == (False, 401, "disabled-user", "disabled-user")
    assert standing("pipeline") == (False, 401, "disabled-owner", "disabled-owner")
    ServiceAccount.objects.update(is_active=False)
    assert standing(pipeline.uid) == (False, 401, "disabled-service-account", "disabled-service-account")
    settings.ENABLE_SERVICE_ACCOUNTS = False
    assert standing("pipeline")[2] == "service-accounts-switched-off"


def test_a_machine_does_no_more_than_its_owner(as_alice: Api, bob: User, pipeline: ServiceAccount, read_write: None) -> None:
    User.objects.filter(pk=bob.pk).update(role=Role.objects.get(name="viewer"))
    assert ask(as_alice, "pipeline", "POST").json()["reason"] == "not-permitted"


@pytest.mark.parametrize("who", [None, "vera@example.com", "VERA@example.com", "{uid}"])
def test_anybody_may_ask_about_themselves(as_vera: Api, vera: User, read_write: None, who: str | None) -> None:
    found = ask(as_vera, who and who.format(uid=vera.uid)).json()
    assert found["principal"]["name"] == "vera@example.com"


@pytest.mark.parametrize("who", ["alice@example.com", "nobody@example.com", "anonymous"])
def test_about_others_one_must_be_permitted_and_learns_not_even_whether_they_exist(
    as_vera: Api, alice: User, read_write: None, who: str
) -> None:
    found = api_client.problem(ask(as_vera, who), 403, "forbidden")
    assert found["detail"] == "To explain other callers you need the permission policy:explain, which your role does not have."


def test_a_name_that_is_somebodys_id_is_not_taken_for_oneself(as_vera: Api, vera: User, read_write: None) -> None:
    UserFactory(username=vera.uid, sign_in="password")
    api_client.problem(ask(as_vera, vera.uid), 403, "forbidden")


def test_nobody_of_that_name_is_404(as_alice: Api) -> None:
    api_client.problem(ask(as_alice, "nobody@example.com"), 404, "not-found")


@pytest.mark.parametrize("body", [{}, {"method": "GET"}, {"path": "/"}, {"method": "GET", "path": "x" * 9_000}], ids=len)
def test_half_a_question_is_refused(as_alice: Api, body: dict[str, str]) -> None:
    api_client.problem(as_alice.post("/policy/explain", body), 400, "invalid")


def test_the_command_asks_the_same_without_an_actor(bob: User, read_write: None) -> None:
    found = explain(*find_principal("bob@example.com"), method="DELETE", path="/jobs/7")
    assert (found.allowed, found.needed, found.roles) == (True, "upstream:write", ("admin", "user"))
    with pytest.raises(NotFound):
        explain(*find_principal("nobody"), method="GET", path="/")


def test_a_broken_route_is_told_and_not_guessed_round(bob: User) -> None:
    Route.objects.create(position=1, path="/a/**/b", methods=["*"], permission="upstream:read")
    with pytest.raises(Conflict, match="503"):
        explain(*find_principal("bob@example.com"), method="GET", path="/")


def test_the_shared_credential_is_explained_too(settings: Any, read_write: None) -> None:
    settings.AUTH_STRING = "team:$2b$04$abcdefghijklmnopqrstuuu4Z1m2n3o4p5q6r7s8t9u0v1w2x3y4z5"
    found = explain(*find_principal("team"), method="DELETE", path="/jobs/1")
    assert (found.allowed, found.status, found.principal.kind, found.principal.identity) == (True, 200, "shared", "")
