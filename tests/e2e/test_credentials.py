"""Each kind of credential, good and bad, through the gateway that `make run` starts."""

import re

import pytest

from accounts import token_format
from tests.e2e.conftest import SHARED_PASSWORD, Stage, identity
from tests.factories import PASSWORD
from tests.http_client import Reply, basic, bearer, session_key
from tests.servers import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stage")]


def refusal(reply: Reply) -> tuple[int, bytes, list[str]]:
    """Return everything of an answer that could tell one refusal from another."""
    names = sorted({name.lower() for name, _ in reply.headers} - {"date"})
    return reply.status, reply.body, [*reply.all("WWW-Authenticate"), *names]


def test_without_a_credential_the_answer_is_401_with_both_challenges(stage: Stage) -> None:
    reply = stage.refused()
    assert reply.status == 401
    assert reply.all("WWW-Authenticate") == ['Basic realm="SkyAuth", charset="UTF-8"', 'Bearer realm="SkyAuth"']
    assert reply.header("Content-Type") == "application/problem+json"
    assert reply.header("Cache-Control") == "no-store"
    assert reply.json["code"] == "unauthenticated"
    assert not [name for name, _ in reply.headers if name.lower().startswith("x-auth-request-")]


def test_a_token_goes_through_and_the_upstream_reads_who_it_is(stage: Stage, pipeline: str) -> None:
    arrived = stage.told(bearer(pipeline), target="/v1/things?page=2", method="POST")
    told = identity(arrived)
    uid = told["user"][0]
    assert told == {
        "email": [f"pipeline@{uid}"],
        "user": [uid],
        "groups": [""],
        "role": ["user"],
        "method": ["bearer"],
    }
    assert re.fullmatch(r"sa-[0-9a-f]{16}", uid)
    assert (arrived.method, arrived.target) == ("POST", "/v1/things?page=2")


def test_the_token_itself_never_reaches_the_upstream(stage: Stage, pipeline: str) -> None:
    arrived = stage.told(bearer(pipeline), ("X-Skypilot-Auth-Mode", "token"))
    assert not arrived.all("Authorization")
    assert not arrived.all("X-Skypilot-Auth-Mode")
    assert pipeline not in repr(arrived)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("skyauth=SECRET", ""),
        ("a=1; skyauth=SECRET; b=2", "a=1; b=2"),
        ("skyauth=SECRET; b=2", "b=2"),
        ("a=1; __Host-skyauth=SECRET; skyauth-csrf=SECRET", "a=1"),
        ("myskyauth=1; skyauthy=2", "myskyauth=1; skyauthy=2"),
    ],
)
def test_skyauths_own_cookies_never_reach_the_upstream_and_others_do(stage: Stage, pipeline: str, sent: str, kept: str) -> None:
    assert stage.told(bearer(pipeline), ("Cookie", sent)).all("Cookie") == [kept]


def test_every_bad_credential_gets_the_same_401(stage: Stage, pipeline: str) -> None:
    stage.console("create_user", name="carl@example.com", role="user", password=PASSWORD)
    stage.console("create_user", name="dora@example.com", role="user", password=PASSWORD)
    stage.console("set_active", name="dora@example.com", active=False)
    expired, revoked, orphan = (stage.machine(name, "user") for name in ("expired", "revoked", "orphan"))
    stage.console("expire", token=expired)
    stage.console("revoke", token=revoked)
    stage.console("update_account", name="orphan", active=False)
    bad = {
        "expired": [bearer(expired)],
        "revoked": [bearer(revoked)],
        "of a disabled account": [bearer(orphan)],
        "truncated": [bearer(pipeline[:-1])],
        "one character changed": [bearer(pipeline[:20] + ("A" if pipeline[20] != "A" else "B") + pipeline[21:])],
        "well formed and unknown": [bearer(token_format.mint().plaintext)],
        "empty": [("Authorization", "Bearer ")],
        "the prefix alone": [bearer("sky_")],
        "non-ASCII": [bearer(b"sky_" + b"\xc3\xa9" * 20)],
        "a byte 0xff": [bearer(pipeline.encode()[:-1] + b"\xff")],
        "oversized": [bearer("sky_" + "A" * 8_000)],
        "a space in it": [bearer(pipeline[:10] + " " + pipeline[10:])],
        "twice": [bearer(pipeline), bearer(pipeline)],
        "token and Basic": [bearer(pipeline), basic("carl@example.com", PASSWORD)],
        "somebody else's": [bearer("eyJhbGciOiJub25lIn0.e30.")],
        "of an unknown scheme": [("Authorization", "Negotiate abc")],
        "wrong password": [basic("carl@example.com", "wrong")],
        "of an unknown user": [basic("nobody@example.com", PASSWORD)],
        "of a disabled user": [basic("dora@example.com", PASSWORD)],
        "Basic without a colon": [("Authorization", "Basic Y2FybA==")],
        "Basic that is not Base64": [("Authorization", "Basic ???")],
        "oversized Basic": [("Authorization", "Basic " + "QUFB" * 3_000)],
        "wrong shared password": [basic("team", "wrong")],
    }
    expected = refusal(stage.refused())
    answers = {name: refusal(stage.refused(*headers)) for name, headers in bad.items()}
    assert {name: answer for name, answer in answers.items() if answer != expected} == {}
    assert expected[0] == 401


def test_a_bad_token_is_refused_whatever_good_session_or_header_comes_with_it(stage: Stage) -> None:
    cookie = signed_in(stage, "admin", stage.run.password)
    assert stage.ask(cookie).status == 200
    assert stage.refused(cookie, bearer(token_format.mint().plaintext)).status == 401


def test_a_token_that_is_revoked_between_two_requests_is_refused_on_the_second(stage: Stage) -> None:
    token = stage.machine("short-lived", "user")
    stage.told(bearer(token))
    stage.console("revoke", token=token)
    assert stage.refused(bearer(token)).status == 401


def test_a_role_changed_between_two_requests_counts_on_the_next_both_ways(stage: Stage) -> None:
    token = stage.machine("promoted", "viewer")
    assert stage.refused(bearer(token), method="POST").status == 403
    stage.console("update_account", name="promoted", role="user")
    assert identity(stage.told(bearer(token), method="POST"))["role"] == ["user"]
    stage.console("update_account", name="promoted", role="viewer")
    assert stage.refused(bearer(token), method="POST").status == 403


def test_a_machine_stops_with_its_disabled_owner_and_comes_back_with_them(stage: Stage) -> None:
    stage.console("create_user", name="erin@example.com", role="user", password=PASSWORD)
    token = stage.machine("erins", "user", owner="erin@example.com")
    stage.told(bearer(token))
    stage.console("set_active", name="erin@example.com", active=False)
    assert stage.refused(bearer(token)).status == 401
    stage.console("set_active", name="erin@example.com", active=True)
    stage.told(bearer(token))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
def test_a_viewer_is_refused_on_a_write_route_and_told_why(stage: Stage, reader: str, method: str) -> None:
    reply = stage.refused(bearer(reader), method=method)
    assert reply.status == 403
    assert re.fullmatch(r"[0-9A-Za-z]{12}", reply.header("X-Skyauth-Decision") or "")
    assert reply.json == {
        "decision": reply.header("X-Skyauth-Decision"),
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "code": "not-permitted",
        "detail": "This requires upstream:write, which the role does not have.",
        "needed": "upstream:write",
        "role": "viewer",
        "rule": "#2 * /** -> upstream:write",
    }


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_viewer_may_read(stage: Stage, reader: str, method: str) -> None:
    assert identity(stage.told(bearer(reader), method=method))["role"] == ["viewer"]


def test_a_users_own_password_carries_the_users_role_until_it_changes(stage: Stage) -> None:
    uid = stage.console("create_user", name="frank@example.com", role="user", password=PASSWORD)
    credential = basic("frank@example.com", PASSWORD)
    assert identity(stage.told(credential, method="POST")) == {
        "email": ["frank@example.com"],
        "user": [uid],
        "groups": [""],
        "role": ["user"],
        "method": ["basic"],
    }
    stage.console("set_role", name="frank@example.com", role="viewer")
    assert stage.refused(credential, method="POST").status == 403
    stage.console("set_active", name="frank@example.com", active=False)
    assert stage.refused(credential).status == 401


def test_the_shared_password_goes_through_without_an_identity(stage: Stage) -> None:
    arrived = stage.told(basic("team", SHARED_PASSWORD), method="POST")
    assert identity(arrived) == {"email": [""], "user": [""], "groups": [""], "role": [""], "method": ["shared"]}
    assert not arrived.all("Authorization")


def signed_in(stage: Stage, name: str, password: str) -> tuple[str, str]:
    """Return the Cookie header of a browser that has signed in."""
    return "Cookie", f"theme=dark; skyauth={session_key(stage.run.port, name, password)}"


def test_the_session_of_the_first_admin_opens_the_upstream_too(stage: Stage) -> None:
    cookie = signed_in(stage, "admin", stage.run.password)
    arrived = stage.told(cookie, method="DELETE")
    assert identity(arrived)["email"] == ["admin"]
    assert (identity(arrived)["role"], identity(arrived)["method"]) == (["admin"], ["session"])
    assert arrived.all("Cookie") == ["theme=dark"]


def test_a_session_ends_with_its_disabled_user(stage: Stage) -> None:
    stage.console("create_user", name="heidi@example.com", role="admin", password=PASSWORD)
    cookie = signed_in(stage, "heidi@example.com", PASSWORD)
    stage.told(cookie)
    stage.console("set_active", name="heidi@example.com", active=False)
    assert stage.refused(cookie).status == 401


def test_every_refusal_is_in_the_audit_log_with_its_reason_and_no_secret(stage: Stage, pipeline: str) -> None:
    stage.refused(bearer(pipeline[:-1] + "!"))
    entries = stage.console("refusals")
    assert {"expired token", "revoked token", "malformed token", "wrong password"} <= {entry["reason"] for entry in entries}
    assert pipeline[:30] not in repr(entries)


def test_what_was_asked_is_kept_for_trying_rules_against(stage: Stage, pipeline: str, reader: str) -> None:
    for _ in range(3):
        stage.told(bearer(pipeline), target="/v1/sampled?secret=1", method="PATCH")
        stage.refused(bearer(reader), target="/v1/sampled", method="PATCH")
        stage.refused(target="/v1/sampled", method="PATCH")

    def sampled() -> list[list[object]]:
        return sorted(row for row in stage.console("recent", method="PATCH") if row[1] == "/v1/sampled")

    wait_until(lambda: len(sampled()) == 2, "the sample is written")
    assert sampled() == [["pipeline", "/v1/sampled", True], ["reader", "/v1/sampled", False]]
