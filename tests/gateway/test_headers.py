"""The one module that makes answers of decisions: every answer has every identity header."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.problems import problem
from gateway import headers
from gateway.headers import IDENTITY
from rbac import principals
from rbac.permissions import Permission
from rbac.policy import Decision, Reason
from rbac.principals import Kind, Method, Principal
from tests.verify_client import identity

ALICE = Principal(
    Kind.USER, "96ed8a5c", "alice@example.com", role="admin", method=Method.PROXY, peer="192.0.2.7", pk=1, groups=("dev", "ops")
)
ACCOUNT = Principal(Kind.SERVICE_ACCOUNT, "sa-0123456789abcdef", "pipeline", role="user", method=Method.BEARER, pk=2, owner=1)
SHARED = principals.shared("team", "192.0.2.7")
ANONYMOUS = principals.anonymous("192.0.2.7")
DENIED = Decision(
    False, Reason.NOT_PERMITTED, "This requires upstream:write.", Permission.UPSTREAM_WRITE, "#2 * /** -> upstream:write"
)
NO_ROUTE = Decision(False, Reason.NO_ROUTE, "No route.")
ODD = Decision(False, Reason.UNREADABLE_TARGET, "The path is odd.")
ID = "4fGh7Kp2Xw9Q"
EMPTY = dict.fromkeys(("email", "user", "groups", "role", "method"), "")


def lines(answer, name):
    return [value for key, value in answer.headers if key == name.encode()]


@pytest.mark.parametrize(
    ("principal", "expected"),
    [
        (ALICE, {"email": "alice@example.com", "user": "96ed8a5c", "groups": "dev,ops", "role": "admin", "method": "proxy"}),
        (
            ACCOUNT,
            {**EMPTY, "email": "pipeline@sa-0123456789abcdef", "user": "sa-0123456789abcdef", "role": "user", "method": "bearer"},
        ),
        (SHARED, {**EMPTY, "method": "shared"}),
        (ANONYMOUS, EMPTY),
    ],
)
def test_promise_28_every_identity_header_is_written_exactly_once(principal, expected):
    answer = headers.allowed(principal)
    assert answer.status == 200
    assert answer.body == b""
    assert identity(answer) == expected


@pytest.mark.parametrize(
    "answer",
    [
        headers.denied(ALICE, DENIED, ID, basic=True),
        headers.denied(ANONYMOUS, DENIED, ID, basic=True),
        headers.denied(ALICE, ODD, ID, basic=True),
        headers.unauthenticated(basic=False),
        headers.unavailable(),
    ],
)
def test_promise_28_a_refusal_has_empty_identity_headers(answer):
    assert identity(answer) == EMPTY
    assert answer.status in {401, 403, 503}
    assert lines(answer, "cache-control") == [b"no-store"]
    assert lines(answer, "content-type") == [b"application/problem+json"]
    assert lines(answer, "content-length") == [str(len(answer.body)).encode()]
    body = json.loads(answer.body)
    assert body["status"] == answer.status
    assert {"type", "title", "code", "detail"} <= body.keys()


def test_a_denial_names_the_required_permission_and_the_route():
    answer = headers.denied(ALICE, DENIED, ID, basic=True)
    assert answer.status == 403
    body = json.loads(answer.body)
    assert (body["code"], body["detail"]) == ("not-permitted", "This requires upstream:write.")
    assert (body["needed"], body["role"], body["rule"]) == ("upstream:write", "admin", "#2 * /** -> upstream:write")
    assert not lines(answer, "www-authenticate")


def test_a_denial_has_its_decision_id_in_body_and_header():
    answer = headers.denied(ALICE, NO_ROUTE, ID, basic=True)
    assert json.loads(answer.body)["decision"] == ID
    assert lines(answer, "x-skyauth-decision") == [ID.encode()]
    assert not lines(headers.denied(ANONYMOUS, DENIED, ID, basic=True), "x-skyauth-decision")


def test_a_denial_omits_empty_fields():
    assert not {"needed", "rule"} & json.loads(headers.denied(ALICE, NO_ROUTE, ID, basic=True).body).keys()
    assert "role" not in json.loads(headers.denied(SHARED, NO_ROUTE, ID, basic=True).body)


@pytest.mark.parametrize("decision", [DENIED, NO_ROUTE])
def test_promise_16_an_anonymous_caller_learns_nothing_about_the_routes(decision):
    assert headers.denied(ANONYMOUS, decision, ID, basic=True) == headers.unauthenticated(basic=True)


def test_an_unreadable_request_is_403_for_everybody_because_signing_in_would_not_help():
    assert headers.denied(ANONYMOUS, ODD, ID, basic=True).status == 403


@pytest.mark.parametrize(
    "refusal", [headers.denied(ALICE, DENIED, ID, basic=True), headers.unauthenticated(basic=True), headers.unavailable()]
)
def test_a_page_changes_only_the_body_of_a_refusal(refusal):
    page = headers.page(refusal, "<p>Nö</p>".encode(), "default-src 'none'")
    assert (page.status, page.body.decode()) == (refusal.status, "<p>Nö</p>")
    assert lines(page, "content-type") == [b"text/html; charset=utf-8"]
    assert lines(page, "content-length") == [b"10"]
    assert lines(page, "content-security-policy") == [b"default-src 'none'"]
    body_headers = {b"content-type", b"content-length"}
    assert [line for line in refusal.headers if line[0] not in body_headers] == list(page.headers[: len(refusal.headers) - 2])


def test_promise_28_a_redirect_to_the_sign_in_page_has_empty_identity_headers():
    answer = headers.redirect("https://auth.example.com/sign-in")
    assert (answer.status, answer.body, identity(answer)) == (302, b"", EMPTY)
    assert lines(answer, "location") == [b"https://auth.example.com/sign-in"]
    assert lines(answer, "cache-control") == [b"no-store"]
    assert not lines(answer, "www-authenticate")


@pytest.mark.parametrize(
    ("basic", "challenges"),
    [(True, [b'Basic realm="SkyAuth", charset="UTF-8"', b'Bearer realm="SkyAuth"']), (False, [b'Bearer realm="SkyAuth"'])],
)
def test_a_401_challenges_with_the_accepted_schemes(basic, challenges):
    assert lines(headers.unauthenticated(basic=basic), "www-authenticate") == challenges


def test_problem_details_name_the_invalid_fields():
    body = problem(400, "invalid", "Bad.", {"name": ("too long",)}, hint="x")
    assert (body["errors"], body["hint"], body["title"]) == ({"name": ["too long"]}, "x", "Bad Request")
    assert "errors" not in problem(400, "invalid", "Bad.")


def test_promise_43_an_error_of_skyauths_own_is_503_with_retry_after():
    answer = headers.unavailable()
    assert answer.status == 503
    assert lines(answer, "retry-after") == [b"5"]
    assert not lines(answer, "www-authenticate")


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (("a,b", "c"), "a?b,c"),
        (("é", "\r\nX-Evil: 1"), "?,??X-Evil: 1"),
        (("", " "), ", "),
        (("\u2028",), "?"),
        ((), ""),
    ],
)
def test_promise_42_a_group_name_cannot_add_a_header(groups, expected):
    assert identity(headers.allowed(Principal(Kind.USER, "1", "a@example.com", groups=groups)))["groups"] == expected


@settings(deadline=None)
@given(
    name=st.text(max_size=20),
    role=st.text(max_size=10),
    groups=st.lists(st.text(max_size=10), max_size=3),
    kind=st.sampled_from(Kind),
)
def test_promise_28_each_identity_header_is_one_line_of_ascii_for_any_name(name, role, groups, kind):
    answer = headers.allowed(Principal(kind, "uid", name, role=role, groups=tuple(groups)))
    assert len(identity(answer)) == len(IDENTITY)
    assert all(b"\r" not in value and b"\n" not in value and value.isascii() for _, value in answer.headers)
    assert identity(answer)["groups"].count(",") <= max(len(groups) - 1, 0)
