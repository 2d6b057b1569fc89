"""Routes and the one decision: the first match names the permission, and no match means no."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.paths import split_path
from rbac import policy
from rbac.patterns import BadPattern
from rbac.permissions import ADMIN, EVERYTHING, MEANINGS, PUBLIC, UPSTREAM, Permission, effective_permissions
from rbac.policy import Reason, decide, decide_request, decide_with_roles, unreadable
from rbac.routes import Rule, Table, compile_rule
from rbac.targets import Target, valid_host, valid_method

READ, WRITE = Permission.UPSTREAM_READ, Permission.UPSTREAM_WRITE


def rule(path="/**", methods=("*",), permission="upstream:read", host="", position=1):
    return compile_rule(position=position, host=host, path=path, methods=methods, permission=permission)


def target(method="GET", path="/a", host="api.example.com"):
    return Target(method, host, split_path(path), path)


@pytest.mark.parametrize(
    ("fields", "asked", "matches"),
    [
        ({}, target(), True),
        ({"methods": ["GET", "HEAD"]}, target("HEAD"), True),
        ({"methods": ["GET"]}, target("POST"), False),
        ({"methods": ["GET"]}, target("get"), False),
        ({"methods": []}, target(), False),
        ({"methods": "GET"}, target(), False),  # a row written round the service layer: letters are no methods
        ({"host": "api.example.com"}, target(), True),
        ({"host": "api.example.com"}, target(host="evil.example"), False),
        ({"host": "example.com"}, target(), False),
        ({"path": "/a/*"}, target(path="/a"), False),
        ({"path": "/a"}, target(path="/a"), True),
    ],
)
def test_a_rule_speaks_about_a_request_when_host_method_and_path_all_match(fields, asked, matches):
    assert rule(**fields).matches(asked) is matches


def test_the_first_match_decides():
    rules = [rule("/a/x", permission="upstream:admin"), rule("/a/**"), rule("/**", permission="upstream:write")]
    assert Table(rules).first_match(target(path="/a/x")) is rules[0]
    assert Table(rules).first_match(target(path="/a/y")) is rules[1]
    assert Table(rules).first_match(target(path="/b")) is rules[2]
    assert Table(reversed(rules)).first_match(target(path="/a/x")) is rules[2]
    assert Table([]).first_match(target()) is None


STEPS = st.sampled_from(["a", "b", "*"])
RULES = st.lists(
    st.builds(
        lambda steps, last, methods, host: rule("/" + "/".join([*steps, *last]), methods, host=host),
        st.lists(STEPS, max_size=3),
        st.sampled_from([["a"], ["*"], ["**"], [""]]),
        st.sampled_from([["*"], ["GET"], ["POST", "GET"]]),
        st.sampled_from(["", "one.example", "two.example"]),
    ),
    max_size=12,
)
TARGETS = st.builds(
    lambda method, steps, host: target(method, "/" + "/".join(steps), host),
    st.sampled_from(["GET", "POST", "PUT"]),
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=4).map(lambda steps: [*steps, ""] if len(steps) == 3 else steps),
    st.sampled_from(["one.example", "two.example", "three.example"]),
)


@given(RULES, TARGETS)
def test_a_table_finds_what_trying_one_rule_after_the_other_finds(rules, asked):
    assert Table(rules).first_match(asked) is next((rule for rule in rules if rule.matches(asked)), None)


def test_what_a_look_up_tries_does_not_grow_with_the_number_of_routes(monkeypatch):
    tried = []
    monkeypatch.setattr(Rule, "matches", lambda self, _: tried.append(self) or False)
    Table([rule(f"/r{n}/**") for n in range(1_000)] + [rule("/**")]).first_match(target(path="/r7/x"))
    assert [rule.text for rule in tried] == ["#1 * /r7/** -> upstream:read", "#1 * /** -> upstream:read"]


def test_a_rule_tells_what_it_is_in_one_line():
    assert rule("/a/**", ("POST", "GET"), host="h", position=3).text == "#3 GET,POST h/a/** -> upstream:read"
    assert rule("/a", ("GET", "*")).text == "#1 * /a -> upstream:read"


def test_a_rule_with_a_broken_pattern_does_not_compile():
    with pytest.raises(BadPattern):
        rule("/a*b")


@pytest.mark.parametrize("permission", ["", "upstream:everything", "UPSTREAM:READ", "upstream:read ", "admin"])
def test_promise_35_no_role_has_an_unknown_permission(permission):
    broken = rule(permission=permission)
    assert broken.permission is None
    decision = decide_request(EVERYTHING, target(), Table([broken]))
    assert not decision
    assert decision.reason is Reason.UNKNOWN_PERMISSION
    assert decision.rule == broken.text


@pytest.mark.parametrize(
    ("held", "needed", "allowed", "reason"),
    [
        (frozenset({READ}), READ, True, Reason.GRANTED),
        (frozenset({READ}), WRITE, False, Reason.NOT_PERMITTED),
        (frozenset(), READ, False, Reason.NOT_PERMITTED),
        (EVERYTHING, READ, True, Reason.GRANTED),
        (EVERYTHING, None, False, Reason.UNKNOWN_PERMISSION),
        (frozenset(), None, False, Reason.UNKNOWN_PERMISSION),
    ],
)
def test_a_decision_has_a_result_and_a_reason(held, needed, allowed, reason):
    decision = decide(held, needed, "#1")
    assert (decision.allowed, bool(decision), decision.reason, decision.needed, decision.rule) == (
        allowed,
        allowed,
        reason,
        needed,
        "#1",
    )
    assert decision.message.endswith(".")


def test_promise_35_without_a_route_even_an_admin_is_denied():
    assert decide_request(EVERYTHING, target(), Table([])).reason is Reason.NO_ROUTE
    assert decide_request(EVERYTHING, target("POST"), Table([rule(methods=["GET"])])).reason is Reason.NO_ROUTE


def test_what_cannot_be_read_is_denied_with_the_sentence_that_says_why():
    decision = unreadable("Because.")
    assert (decision.allowed, decision.reason, decision.message) == (False, Reason.UNREADABLE_TARGET, "Because.")


def test_explaining_uses_the_same_decision_and_names_the_roles_that_may():
    roles = {"admin": EVERYTHING, "user": frozenset({READ, WRITE}), "viewer": frozenset({READ})}
    table = Table([rule("/w", permission="upstream:write"), rule("/x", permission="nonsense")])
    denied = decide_with_roles(roles["viewer"], target(path="/w"), table, roles)
    assert denied.decision == decide_request(roles["viewer"], target(path="/w"), table)
    assert denied.roles == ("admin", "user")
    assert decide_with_roles(roles["user"], target(path="/w"), table, roles).decision.allowed
    assert decide_with_roles(EVERYTHING, target(path="/x"), table, roles).roles == ()
    assert decide_with_roles(EVERYTHING, target(path="/none"), table, roles).roles == ()


@pytest.mark.parametrize("text", ["GET", "POST", "PROPFIND", "VERSIONCONTROLABCDEFG"[:20]])
def test_a_method_is_upper_case_letters(text):
    assert valid_method(text)


@pytest.mark.parametrize("text", ["", "get", "GETz", "GE", "G" * 21, "GET ", "GET\n", "M-SEARCH", "*", "GÉT", "GET,POST"])
def test_promise_25_an_odd_method_is_none(text):
    assert not valid_method(text)


@pytest.mark.parametrize(
    "text", ["a", "api.example.com", "192.0.2.1", "[::1]", "[2001:db8::1]", "xn--bcher-kva.example", "a-b.c", "a" * 63]
)
def test_a_canonical_host_is_accepted(text):
    assert valid_host(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "API.example.com",
        "a.",
        ".a",
        "a..b",
        "-a",
        "a-",
        "a_b",
        "a:80",
        "[::1]:80",
        "[::G]",
        "[]",
        "a b",
        "a\n",
        "a/b",
        "a@b",
        "é",
        "a" * 64,
        "a." * 127,
    ],
)
def test_promise_26_what_is_not_a_canonical_host_is_refused(text):
    assert not valid_host(text)


def test_the_text_of_a_target_is_the_path_as_sent():
    assert str(target("GET", "/a%20b")) == "GET api.example.com/a%20b"


@pytest.mark.parametrize(
    ("role", "names", "expected"),
    [
        (ADMIN, [], EVERYTHING),
        (ADMIN, ["nonsense"], EVERYTHING),
        ("user", ["upstream:read"], frozenset({"upstream:read"}) | PUBLIC),
        ("user", ["upstream:raed", "*"], PUBLIC),
        ("Admin", [], PUBLIC),
        ("", [], PUBLIC),
    ],
)
def test_a_role_gives_the_names_that_exist_and_admin_everything(role, names, expected):
    assert effective_permissions(role, names) == expected


def test_permissions_are_sorted_and_each_has_a_meaning():
    values = [permission.value for permission in Permission]
    assert values == sorted(values)
    assert list(MEANINGS) == list(Permission)
    assert {p for p in EVERYTHING if p.startswith("upstream:")} == UPSTREAM
    assert policy.Permission is Permission
