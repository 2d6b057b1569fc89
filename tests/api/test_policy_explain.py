"""Explanations of decisions, for any principal and request."""

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
    body = {"method": method, "path": path, "host": host, **({} if who is None else {"who": who})}
    return api.post("/policy/explain", body)


def test_an_allowed_request_names_the_route_and_the_permission(as_alice: Api, vera: User, read_write: None) -> None:
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
def test_explain_returns_the_decision_for_every_caller(
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
    result = ask(as_alice, who, method, path).json()
    assert (result["allowed"], result["status"], result["reason"]) == (allowed, status, reason)


def test_get_returns_the_same_as_post(as_alice: Api, bob: User, read_write: None) -> None:
    query = {"who": bob.uid, "method": "GET", "path": "/jobs"}
    response = as_alice.client.get("/api/v1/policy/explain", query_params=query)
    assert response.json() == ask(as_alice, bob.uid).json()


def test_without_a_route_every_request_is_denied(as_alice: Api, bob: User) -> None:
    result = ask(as_alice, bob.username).json()
    assert (result["allowed"], result["reason"], result["needed"], result["rule"], result["roles"]) == (
        False,
        "no-route",
        None,
        "",
        [],
    )


def test_hosts_match_as_in_the_verify_endpoint(as_alice: Api, bob: User) -> None:
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


def test_a_disabled_principal_gets_401_whatever_the_routes_say(
    as_alice: Api, bob: User, pipeline: ServiceAccount, read_write: None, settings: Any
) -> None:
    def standing(who: str) -> tuple[Any, ...]:
        result = ask(as_alice, who).json()
        assert "refused" in result["message"]
        assert result["needed"] == "upstream:read"
        return result["allowed"], result["status"], result["reason"], result["standing"]

    User.objects.filter(pk=bob.pk).update(is_active=False)
    assert standing("bob@example.com") == (False, 401, "disabled-user", "disabled-user")
    assert standing("pipeline") == (False, 401, "disabled-owner", "disabled-owner")
    ServiceAccount.objects.update(is_active=False)
    assert standing(pipeline.uid) == (False, 401, "disabled-service-account", "disabled-service-account")
    settings.ENABLE_SERVICE_ACCOUNTS = False
    assert standing("pipeline")[2] == "service-accounts-switched-off"


def test_a_service_account_has_no_more_permissions_than_its_owner(
    as_alice: Api, bob: User, pipeline: ServiceAccount, read_write: None
) -> None:
    User.objects.filter(pk=bob.pk).update(role=Role.objects.get(name="viewer"))
    assert ask(as_alice, "pipeline", "POST").json()["reason"] == "not-permitted"


@pytest.mark.parametrize("who", [None, "vera@example.com", "VERA@example.com", "{uid}"])
def test_every_caller_can_ask_about_themselves(as_vera: Api, vera: User, read_write: None, who: str | None) -> None:
    result = ask(as_vera, who and who.format(uid=vera.uid)).json()
    assert result["principal"]["name"] == "vera@example.com"


@pytest.mark.parametrize("who", ["alice@example.com", "nobody@example.com", "anonymous"])
def test_without_permission_a_caller_does_not_learn_whether_others_exist(
    as_vera: Api, alice: User, read_write: None, who: str
) -> None:
    result = api_client.problem(ask(as_vera, who), 403, "forbidden")
    assert result["detail"] == "To explain other callers you need the permission policy:explain, which your role does not have."


def test_a_name_equal_to_an_id_does_not_take_its_place(as_vera: Api, vera: User, read_write: None) -> None:
    UserFactory(username=vera.uid, sign_in="password")
    assert ask(as_vera, vera.uid).json()["principal"]["name"] == vera.username


def test_an_unknown_principal_is_404(as_alice: Api) -> None:
    api_client.problem(ask(as_alice, "nobody@example.com"), 404, "not-found")


@pytest.mark.parametrize("body", [{}, {"method": "GET"}, {"path": "/"}, {"method": "GET", "path": "x" * 9_000}], ids=len)
def test_an_incomplete_question_is_an_error(as_alice: Api, body: dict[str, str]) -> None:
    api_client.problem(as_alice.post("/policy/explain", body), 400, "invalid")


def test_the_command_returns_the_same_without_an_actor(bob: User, read_write: None) -> None:
    result = explain(*find_principal("bob@example.com"), method="DELETE", path="/jobs/7")
    assert (result.allowed, result.needed, result.roles) == (True, "upstream:write", ("admin", "user"))
    with pytest.raises(NotFound):
        explain(*find_principal("nobody"), method="GET", path="/")


def test_a_broken_route_is_an_error_and_not_skipped(bob: User) -> None:
    Route.objects.create(position=1, path="/a/**/b", methods=["*"], permission="upstream:read")
    with pytest.raises(Conflict, match="503"):
        explain(*find_principal("bob@example.com"), method="GET", path="/")


def test_the_shared_credential_is_explained_too(settings: Any, read_write: None) -> None:
    settings.AUTH_STRING = "team:$2b$04$abcdefghijklmnopqrstuuu4Z1m2n3o4p5q6r7s8t9u0v1w2x3y4z5"
    result = explain(*find_principal("team"), method="DELETE", path="/jobs/1")
    assert (result.allowed, result.status, result.principal.kind, result.principal.identity) == (True, 200, "shared", "")
