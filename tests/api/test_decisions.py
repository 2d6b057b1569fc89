"""What was refused, by the id that the caller was told."""

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


def test_an_admin_reads_what_happened_and_what_would_happen_now(as_alice: Api, vera: User, read_write: None) -> None:
    decision = denied(vera, "POST", "/things/7?x=1")
    found = of(as_alice, decision)
    assert found.status_code == 200
    assert found.headers["Cache-Control"] == "no-store"
    at = found.json()["at"]
    assert abs((datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()) < 60
    body = found.json()
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


def test_what_was_then_stays_and_what_is_now_is_new(as_alice: Api, vera: User, read_write: None) -> None:
    decision = denied(vera, "POST")
    User.objects.filter(pk=vera.pk).update(role=Role.objects.get(name="user"))
    Role.objects.create(name="ops", permissions=["upstream:write"])
    found = of(as_alice, decision).json()
    assert (found["role"], found["reason"], found["roles"]) == ("viewer", "not-permitted", ["admin", "ops", "user"])
    assert (found["now"]["allowed"], found["now"]["status"], found["now"]["principal"]["role"]) == (True, 200, "user")
    User.objects.filter(pk=vera.pk).update(is_active=False)
    assert of(as_alice, decision).json()["now"]["reason"] == "disabled-user"


def test_everybody_reads_their_own_and_nobody_elses(
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


def test_anothers_decision_looks_exactly_like_none(as_bob: Api, vera: User, read_write: None) -> None:
    decision = denied(vera, "POST")
    other = api_client.problem(of(as_bob, decision), 404, "not-found")
    none = api_client.problem(of(as_bob, "A" * 12), 404, "not-found")
    assert other["detail"].replace(decision, "A" * 12) == none["detail"]


def test_an_id_that_is_unknown_says_how_to_ask_without_it(as_alice: Api) -> None:
    detail = api_client.problem(of(as_alice, "A" * 12), 404, "not-found")["detail"]
    for words in ("'AAAAAAAAAAAA'", "mistyped", "flood", "explain WHO METHOD PATH"):
        assert words in detail


@pytest.mark.parametrize("decision", ["", "A" * 11, "A" * 13, "A" * 11 + "-", "A" * 11 + "%00", "A" * 6 + "/" + "A" * 5])
def test_what_is_no_id_is_404(as_alice: Api, decision: str) -> None:
    api_client.problem(of(as_alice, decision), 404)


def test_an_id_is_taken_as_it_is_written(as_alice: Api, vera: User, read_write: None) -> None:
    decision = denied(vera, "POST")
    if decision.swapcase() != decision:
        api_client.problem(of(as_alice, decision.swapcase()), 404)


def test_a_request_that_could_not_be_read_is_told_as_it_came(as_alice: Api, vera: User) -> None:
    found = of(as_alice, denied(vera, "GET", "/a%2fb")).json()
    assert (found["path"], found["reason"], found["needed"], found["roles"]) == ("/a%2fb", "unreadable-target", "", [])
    assert (found["now"]["allowed"], found["now"]["reason"]) == (False, "unreadable-target")


def test_what_the_proxy_did_not_say_cannot_be_asked_again(as_alice: Api, vera: User, settings: Any) -> None:
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    answer = judge([], proxied(subject=vera.username)._replace(repeated=frozenset({"uri"})))
    found = of(as_alice, dict(answer.headers)[b"x-skyauth-decision"].decode()).json()
    assert (found["now"], found["now_unknown"]) == (None, "The recorded request is incomplete, so it cannot be decided again.")


def test_a_path_that_was_too_long_to_keep_is_not_asked_about_by_its_half(as_alice: Api, vera: User, read_write: None) -> None:
    found = of(as_alice, denied(vera, "POST", "/" + "a" * 3_000)).json()
    assert found["path"].endswith("aaa\N{HORIZONTAL ELLIPSIS}")
    assert found["now"] is None
    assert found["now_unknown"]


def test_who_is_gone_is_told_of_and_not_taken_for_somebody_else(as_alice: Api, vera: User, read_write: None) -> None:
    decision = denied(vera, "POST")
    uid = vera.uid
    vera.delete()
    UserFactory(username=uid, sign_in="password", role=Role.objects.get(name="admin"))
    found = of(as_alice, decision).json()
    assert (found["now"], found["now_unknown"]) == (None, "The user vera@example.com no longer exists.")


def test_a_machine_that_is_gone_is_told_of_too(as_alice: Api, pipeline: ServiceAccount, pipeline_token: str) -> None:
    decision = dict(judge(bearer(pipeline_token), proxied()).headers)[b"x-skyauth-decision"].decode()
    assert of(as_alice, decision).json()["now"]["reason"] == "no-route"
    pipeline.delete()
    assert of(as_alice, decision).json()["now_unknown"] == "The service-account pipeline no longer exists."


def test_the_shared_credential_and_strangers_are_explained_too(as_alice: Api, settings: Any, db: None) -> None:
    settings.AUTH_STRING = f"team:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}"
    decision = dict(judge(basic("team", PASSWORD), proxied()).headers)[b"x-skyauth-decision"].decode()
    found = of(as_alice, decision).json()
    assert (found["kind"], found["name"], found["now"]["reason"]) == ("shared", "team", "no-route")
    settings.AUTH_STRING = ""
    assert of(as_alice, decision).json()["now"] is None
    stranger = dict(judge([], proxied(path="//")).headers)[b"x-skyauth-decision"].decode()
    found = of(as_alice, stranger).json()
    assert (found["kind"], found["uid"], found["now"]["status"]) == ("anonymous", "", 403)


def test_a_strangers_decision_is_nobodys_own(as_vera: Api, db: None) -> None:
    stranger = dict(judge([], proxied(path="//")).headers)[b"x-skyauth-decision"].decode()
    api_client.problem(of(as_vera, stranger), 404)


def test_a_broken_route_table_is_told_and_the_rest_still_read(as_alice: Api, vera: User, read_write: None) -> None:
    decision = denied(vera, "POST")
    Route.objects.create(position=0, path="/a/**/b", methods=["*"], permission="upstream:read")
    found = of(as_alice, decision).json()
    assert found["now"] is None
    assert "503" in found["now_unknown"]


def test_the_audit_log_is_filtered_by_the_id(as_alice: Api, vera: User, read_write: None) -> None:
    decision = denied(vera, "POST")
    denied(vera, "POST", "/other")
    rows = as_alice.get("/audit-events", reference=decision).json()["results"]
    assert [row["reference"] for row in rows] == [decision]
    assert Entry.objects.count() > 1
