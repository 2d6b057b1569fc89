"""Past denials, by the id of the decision that the caller received."""

from datetime import UTC, datetime
from typing import Any

import bcrypt
import pytest

from accounts.models import ServiceAccount, User
from audit.models import Entry
from rbac.models import Role, Route
from tests.api import api_client
from tests.api.api_client import Api
from tests.factories import PASSWORD, UserFactory
from tests.verify_client import basic, bearer, denied, judge, proxied


def of(api: Api, decision: str) -> Any:
    return api.get(f"/policy/decisions/{decision}")


def test_an_admin_reads_the_past_decision_and_the_decision_of_now(as_alice: Api, vera: User, read_write: None) -> None:
    decision = denied(vera, "POST", "/things/7?x=1")
    result = of(as_alice, decision)
    assert result.status_code == 200
    assert result.headers["Cache-Control"] == "no-store"
    at = result.json()["at"]
    assert abs((datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()) < 60
    body = result.json()
    now = body.pop("now")
    assert body == {
        "decision": decision,
        "at": at,
        "name": "vera@example.com",
        "uid": vera.uid,
        "kind": "user",
        "role": "viewer",
        "identity_source": "proxy",
        "peer": "192.0.2.7",
        "method": "POST",
        "host": "api.example.com",
        "path": "/things/7",
        "reason": "not-permitted",
        "message": "This requires upstream:write, which the role does not have.",
        "needed": "upstream:write",
        "rule": "#2 * /** -> upstream:write",
        "roles": ["admin", "user"],
        "now_unknown": "",
    }
    assert (now["allowed"], now["status"], now["reason"], now["principal"]["name"]) == (
        False, 403, "not-permitted", "vera@example.com",
    )  # fmt: skip


def test_the_past_decision_stays_and_the_decision_of_now_follows_the_policy(as_alice: Api, vera: User, read_write: None) -> None:
    decision = denied(vera, "POST")
    User.objects.filter(pk=vera.pk).update(role=Role.objects.get(name="user"))
    Role.objects.create(name="ops", permissions=["upstream:write"])
    result = of(as_alice, decision).json()
    assert (result["role"], result["reason"], result["roles"]) == ("viewer", "not-permitted", ["admin", "ops", "user"])
    assert (result["now"]["allowed"], result["now"]["status"], result["now"]["principal"]["role"]) == (True, 200, "user")
    User.objects.filter(pk=vera.pk).update(is_active=False)
    assert of(as_alice, decision).json()["now"]["reason"] == "disabled-user"


def test_a_user_reads_only_their_own_decisions(
    as_vera: Api, as_bob: Api, as_alice: Api, as_pipeline: Api, vera: User, pipeline_token: str, read_write: None
) -> None:
    Route.objects.update(permission="upstream:admin")
    veras = denied(vera)
    pipelines = judge(bearer(pipeline_token), proxied())
    machines = dict(pipelines.headers)[b"x-skyauth-decision"].decode()
    expected = {
        veras: {"vera": 200, "bob": 404, "pipeline": 404, "alice": 200},
        machines: {"vera": 404, "bob": 404, "pipeline": 200, "alice": 200},
    }
    callers = {"vera": as_vera, "bob": as_bob, "pipeline": as_pipeline, "alice": as_alice}
    got = {decision: {name: of(api, decision).status_code for name, api in callers.items()} for decision in expected}
    assert got == expected


def test_the_decision_of_another_user_looks_like_a_missing_one(as_bob: Api, vera: User, read_write: None) -> None:
    decision = denied(vera, "POST")
    other = api_client.problem(of(as_bob, decision), 404, "not-found")
    none = api_client.problem(of(as_bob, "A" * 12), 404, "not-found")
    assert other["detail"].replace(decision, "A" * 12) == none["detail"]


def test_an_unknown_id_says_how_to_ask_without_it(as_alice: Api) -> None:
    detail = api_client.problem(of(as_alice, "A" * 12), 404, "not-found")["detail"]
    for words in ("'AAAAAAAAAAAA'", "mistyped", "many denials", "explain USER METHOD PATH"):
        assert words in detail


@pytest.mark.parametrize("decision", ["", "A" * 11, "A" * 13, "A" * 11 + "-", "A" * 11 + "%00", "A" * 6 + "/" + "A" * 5])
def test_an_invalid_id_is_404(as_alice: Api, decision: str) -> None:
    api_client.problem(of(as_alice, decision), 404)


def test_an_id_is_case_sensitive(as_alice: Api, vera: User, read_write: None) -> None:
    decision = denied(vera, "POST")
    if decision.swapcase() != decision:
        api_client.problem(of(as_alice, decision.swapcase()), 404)


def test_an_unreadable_request_is_shown_as_received(as_alice: Api, vera: User) -> None:
    result = of(as_alice, denied(vera, "GET", "/a%2fb")).json()
    assert (result["path"], result["reason"], result["needed"], result["roles"]) == ("/a%2fb", "unreadable-target", "", [])
    assert (result["now"]["allowed"], result["now"]["reason"]) == (False, "unreadable-target")


def test_a_request_with_ambiguous_headers_cannot_be_explained_now(as_alice: Api, vera: User, settings: Any) -> None:
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    answer = judge([], proxied(subject=vera.username)._replace(repeated=frozenset({"uri"})))
    result = of(as_alice, dict(answer.headers)[b"x-skyauth-decision"].decode()).json()
    assert (result["now"], result["now_unknown"]) == (None, "The recorded request is incomplete, so it cannot be decided again.")


def test_a_truncated_path_is_not_explained(as_alice: Api, vera: User, read_write: None) -> None:
    result = of(as_alice, denied(vera, "POST", "/" + "a" * 3_000)).json()
    assert result["path"].endswith("aaa\N{HORIZONTAL ELLIPSIS}")
    assert result["now"] is None
    assert result["now_unknown"]


def test_a_deleted_user_is_named_and_not_taken_for_another(as_alice: Api, vera: User, read_write: None) -> None:
    decision = denied(vera, "POST")
    uid = vera.uid
    vera.delete()
    UserFactory(username=uid, sign_in="password", role=Role.objects.get(name="admin"))
    result = of(as_alice, decision).json()
    assert (result["now"], result["now_unknown"]) == (None, "The user vera@example.com no longer exists.")


def test_a_deleted_service_account_is_named_too(as_alice: Api, pipeline: ServiceAccount, pipeline_token: str) -> None:
    decision = dict(judge(bearer(pipeline_token), proxied()).headers)[b"x-skyauth-decision"].decode()
    assert of(as_alice, decision).json()["now"]["reason"] == "no-route"
    pipeline.delete()
    assert of(as_alice, decision).json()["now_unknown"] == "The service-account pipeline no longer exists."


def test_the_shared_credential_and_anonymous_callers_are_explained_too(as_alice: Api, settings: Any, db: None) -> None:
    settings.AUTH_STRING = f"team:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}"
    decision = dict(judge(basic("team", PASSWORD), proxied()).headers)[b"x-skyauth-decision"].decode()
    result = of(as_alice, decision).json()
    assert (result["kind"], result["name"], result["now"]["reason"]) == ("shared", "team", "no-route")
    settings.AUTH_STRING = ""
    assert of(as_alice, decision).json()["now"] is None
    stranger = dict(judge([], proxied(path="//")).headers)[b"x-skyauth-decision"].decode()
    result = of(as_alice, stranger).json()
    assert (result["kind"], result["uid"], result["now"]["status"]) == ("anonymous", "", 403)


def test_the_decision_of_an_anonymous_caller_is_hidden_from_users(as_vera: Api, db: None) -> None:
    stranger = dict(judge([], proxied(path="//")).headers)[b"x-skyauth-decision"].decode()
    api_client.problem(of(as_vera, stranger), 404)


def test_a_broken_route_table_is_reported_and_the_past_is_still_shown(as_alice: Api, vera: User, read_write: None) -> None:
    decision = denied(vera, "POST")
    Route.objects.create(position=0, path="/a/**/b", methods=["*"], permission="upstream:read")
    result = of(as_alice, decision).json()
    assert result["now"] is None
    assert "503" in result["now_unknown"]


def test_the_audit_log_is_filtered_by_the_id(as_alice: Api, vera: User, read_write: None) -> None:
    decision = denied(vera, "POST")
    denied(vera, "POST", "/other")
    rows = as_alice.get("/audit-events", reference=decision).json()["results"]
    assert [row["reference"] for row in rows] == [decision]
    assert Entry.objects.count() > 1
