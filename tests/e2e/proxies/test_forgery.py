"""What a client could forge, through each proxy: identity headers in every spelling, and paths that can be read in two ways."""

from itertools import product

import pytest

from tests.e2e.proxies.conftest import Gateway
from tests.wire import bearer, encode, send

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("proxies")]

NAMES = ("Email", "User", "Groups", "Role", "Method")
EVIL = "evil@example.com"


def spellings(name: str) -> list[str]:
    """Return the ways to write an identity header that some program reads as the header itself."""
    parts = ("X", "Auth", "Request", name)
    joined = ["".join(a + b for a, b in zip(parts, (*separators, ""), strict=True)) for separators in product("-_.", repeat=3)]
    return [spelt for text in joined for spelt in (text, text.lower(), text.upper())]


@pytest.mark.parametrize("name", NAMES)
def test_an_identity_header_of_the_clients_never_reaches_the_upstream_in_any_spelling(
    gateway: Gateway, pipeline: str, name: str
) -> None:
    true = gateway.identity(gateway.told(bearer(pipeline)))
    for spelt in spellings(name):
        arrived = gateway.told(bearer(pipeline), (spelt, EVIL))
        assert gateway.identity(arrived) == true, spelt
        assert EVIL not in repr(arrived.headers), spelt


@pytest.mark.parametrize("name", NAMES)
def test_no_identity_header_opens_the_gateway(gateway: Gateway, name: str) -> None:
    for spelt in spellings(name):
        assert gateway.refused((spelt, EVIL)).status == 401, spelt


def test_repeated_and_mixed_forgeries_leave_one_true_value(gateway: Gateway, pipeline: str) -> None:
    forged = [("X-Auth-Request-Email", EVIL), ("x-auth-request-email", EVIL), ("X_Auth_Request_Email", EVIL)]
    arrived = gateway.told(*forged, bearer(pipeline), *forged)
    assert gateway.identity(arrived) == gateway.identity(gateway.told(bearer(pipeline)))
    assert EVIL not in repr(arrived.headers)


@pytest.mark.parametrize("name", [f"X-Auth-Request-{name}" for name in NAMES])
@pytest.mark.parametrize("connection", ["close, {}", "{}", "keep-alive, {}", "{0}, {0}", "upgrade, {}"])
def test_naming_an_identity_header_in_connection_does_not_make_the_true_one_disappear(
    gateway: Gateway, pipeline: str, name: str, connection: str
) -> None:
    true = gateway.identity(gateway.told(bearer(pipeline)))
    listed = connection.format(name)
    assert gateway.identity(gateway.told(bearer(pipeline), ("Connection", listed))) == true
    assert gateway.identity(gateway.told(bearer(pipeline), ("Connection", listed), (name, EVIL))) == true


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-Host"])
def test_naming_what_the_question_needs_in_connection_never_lets_more_through(gateway: Gateway, reader: str, name: str) -> None:
    listed = ("Connection", f"close, {name}")
    assert gateway.refused(listed).status == 401
    assert gateway.refused(listed, bearer(reader), method="POST").status in {401, 403}


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-Method", "X-Original-Method", "X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method",
        "X_Forwarded_Method", "x-envoy-original-method",
    ],
)  # fmt: skip
def test_no_header_makes_a_writing_request_look_like_a_reading_one(gateway: Gateway, reader: str, header: str) -> None:
    assert gateway.refused((header, "GET"), bearer(reader), method="POST").status == 403


@pytest.mark.parametrize(
    "header", ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method", "X-Original-URL", "X-Rewrite-URL"]
)
def test_no_header_makes_the_upstream_read_another_request_than_was_judged(gateway: Gateway, reader: str, header: str) -> None:
    assert not gateway.told(bearer(reader), (header, "DELETE")).all(header)


@pytest.mark.parametrize(
    "header",
    ["X-Auth-Request-Preferred-Username", "X-Forwarded-User", "X-Forwarded-Email", "Remote-User", "X-Remote-User", "Remote_User"],
)
def test_other_names_for_a_user_do_not_pass_either(gateway: Gateway, pipeline: str, header: str) -> None:
    assert EVIL not in repr(gateway.told(bearer(pipeline), (header, EVIL)).headers)


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "X-Real-IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "Forwarded"]
)
def test_the_upstream_hears_the_clients_true_address(gateway: Gateway, pipeline: str, header: str) -> None:
    arrived = gateway.told(bearer(pipeline), (header, "203.0.113.9"))
    assert arrived.all("X-Forwarded-For") == ["127.0.0.1"]
    assert "203.0.113.9" not in repr(arrived.headers)


@pytest.mark.parametrize(
    "target",
    [
        "/a/../b", "/a/./b", "/..", "/../b", "/a/..", "/a/%2e%2e/b", "/a/%2E./b", "/%2e", "/a/.%2e/b",
        "/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b", "//a", "/a//b", "/a/;x", "/a;x/b", "/a%3bx", "/a%00b", "/a%25b", "/a%3fb",
        "/a%23b", "/a#b", "/a%zz", "/a%2", "/a%0ab", "/a%7fb", b"/a\xffb", "/a%ffb", "/a%c0%afb",
    ],
)  # fmt: skip
def test_an_ambiguous_path_is_refused_even_to_who_may_do_everything(gateway: Gateway, pipeline: str, target: str | bytes) -> None:
    reply = gateway.refused(bearer(pipeline), target=target)
    assert reply.status in {400, 403}
    if reply.status == 403:
        assert reply.json["code"] == "unreadable-target"


@pytest.mark.parametrize("target", ["/a\0b", "/a b", b"/a\tb", "a/b", ""])
def test_a_request_line_that_is_none_is_refused_by_the_gateway_itself(gateway: Gateway, pipeline: str, target: str | bytes) -> None:
    assert gateway.refused(bearer(pipeline), target=target).status == 400


@pytest.mark.parametrize(
    "target", ["/", "/a", "/a/", "/a/b?x=../y", "/a%20b", "/%C3%A9", "/a:b@c", "/a/.b", "/a/...", "/?a//b;c"]
)
def test_a_clear_path_is_delivered_as_it_was_judged(gateway: Gateway, pipeline: str, target: str) -> None:
    assert gateway.told(bearer(pipeline), target=target).target == target


def test_a_path_given_with_a_host_is_judged_and_delivered_as_the_path_alone(gateway: Gateway, pipeline: str, reader: str) -> None:
    assert gateway.told(bearer(pipeline), target="http://other.example/v1/things", method="POST").target == "/v1/things"
    assert gateway.refused(bearer(reader), target="http://other.example/v1/things", method="POST").status == 403


@pytest.mark.parametrize(("method", "target"), [("CONNECT", "127.0.0.1:1"), ("CONNECT", "/"), ("OPTIONS", "*")])
def test_a_request_that_names_no_path_never_reaches_the_upstream(gateway: Gateway, pipeline: str, method: str, target: str) -> None:
    gateway.refused(bearer(pipeline), method=method, target=target)


@pytest.mark.parametrize(("method", "status"), [("get", 403), ("GETz", 403), ("G-ET", 403), ("G", 403), ("X" * 40, 405)])
def test_an_odd_method_is_refused(gateway: Gateway, pipeline: str, method: str, status: int) -> None:
    reply = gateway.refused(bearer(pipeline), method=method)
    assert reply.status == status
    assert b"could not reach" not in reply.body


@pytest.mark.parametrize("host", ["a b", "exa_mple", "x" * 300, "a,b", "127.0.0.1:x"])
def test_an_odd_host_is_refused(gateway: Gateway, pipeline: str, host: str) -> None:
    assert gateway.refused(bearer(pipeline), ("Host", host)).status in {400, 403}


def test_two_requests_in_one_are_not_smuggled_past_the_gateway(gateway: Gateway, reader: str) -> None:
    hidden = encode("POST", "/hidden", [bearer(reader)])
    raw = encode("GET", "/", [bearer(reader), ("Content-Length", str(len(hidden))), ("Transfer-Encoding", "chunked")]) + hidden
    before = len(gateway.upstream.arrived)
    send(gateway.port, raw)
    assert all(arrived.target != "/hidden" for arrived in gateway.upstream.arrived[before:])


def test_a_trailer_does_not_become_an_identity(gateway: Gateway, reader: str) -> None:
    body = b"1\r\nx\r\n0\r\nX-Auth-Request-Role: admin\r\n\r\n"
    headers = [bearer(reader), ("Transfer-Encoding", "chunked"), ("Trailer", "X-Auth-Request-Role")]
    before = len(gateway.upstream.arrived)
    assert send(gateway.port, encode("GET", "/", headers) + body).status == 200
    assert gateway.identity(gateway.upstream.arrived[before])["role"] == ["viewer"]
