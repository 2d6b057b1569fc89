"""What a client could forge, through each proxy: identity headers in every spelling, and paths that can be read in two ways."""

import subprocess
from contextlib import suppress
from http.client import HTTPException
from itertools import product

import pytest

from tests.e2e.proxies.conftest import Gateway
from tests.http_client import HOST, bearer, encode, send
from tests.proxies import BILLING
from tests.requirements import need_program

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("proxies"), pytest.mark.sqlite]

NAMES = ("Email", "User", "Groups", "Role", "Method")
EVIL = "evil@example.com"


def spellings(name: str) -> list[str]:
    """Return the ways to write an identity header that some program reads as the header itself."""
    parts = ("X", "Auth", "Request", name)
    return ["".join(a + b for a, b in zip(parts, (*separators, ""), strict=True)) for separators in product("-_.", repeat=3)]


@pytest.mark.parametrize("name", [*NAMES, "Shared"])
def test_an_identity_header_of_the_clients_never_reaches_the_upstream_in_any_spelling(
    gateway: Gateway, pipeline: str, name: str
) -> None:
    true = gateway.identity(gateway.told(bearer(pipeline)))
    for case in (str, str.lower, str.upper):
        arrived = gateway.told(bearer(pipeline), *((case(spelt), EVIL) for spelt in spellings(name)))
        assert gateway.identity(arrived) == true
        assert EVIL not in repr(arrived.headers)


def test_no_identity_header_opens_the_gateway_though_skyauth_would_believe_it_from_a_proxy(gateway: Gateway) -> None:
    """Each spelling alone: SkyAuth refuses repeated ones, which would hide that one gets through."""
    for spelt in spellings("Email"):
        for case in (str, str.lower):
            assert gateway.refused((case(spelt), EVIL)).status == 401, case(spelt)


def test_no_group_of_the_clients_making_is_believed(gateway: Gateway, pipeline: str) -> None:
    for spelt in spellings("Groups"):
        assert gateway.identity(gateway.told(bearer(pipeline), (spelt, "admins")))["groups"] == "", spelt


@pytest.mark.parametrize("character", "_.!#$%&'*+^`|~")
def test_a_name_that_a_lax_program_reads_as_another_does_not_pass(gateway: Gateway, pipeline: str, character: str) -> None:
    """CGI and its heirs make one variable of X-Skypilot-Auth-Mode and X_Skypilot_Auth_Mode, and of many more."""
    names = ["X-Skypilot-Auth-Mode", "X-HTTP-Method-Override", "X-Tenant", "Content-Length", f"{character}X-Auth-Request-Role"]
    arrived = gateway.told(bearer(pipeline), *((name.replace("-", character), EVIL) for name in names))
    assert EVIL not in repr(arrived.headers)


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
    assert gateway.refused(listed).status in {400, 401}  # Envoy does not let a client take X-Forwarded-Host away
    assert gateway.refused(listed, bearer(reader), method="POST").status in {400, 401, 403}


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


@pytest.mark.parametrize("family", ["X-Auth-Request", "X-Forwarded", "X-Original", "X-Envoy"])
def test_what_nobody_thought_of_passes_only_where_the_proxy_knows_no_wildcards(
    gateway: Gateway, pipeline: str, family: str
) -> None:
    arrived = gateway.told(bearer(pipeline), (f"{family}-Made-Up", EVIL))
    assert (EVIL in repr(arrived.headers)) == (family in gateway.differs.families)


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
def test_a_request_line_that_is_none_is_refused_by_the_gateway_itself(
    gateway: Gateway, pipeline: str, target: str | bytes
) -> None:
    assert gateway.refused(bearer(pipeline), target=target).status == 400


@pytest.mark.parametrize(
    "target", ["/", "/a", "/a/", "/a/b?x=../y", "/a%20b", "/%C3%A9", "/a:b@c", "/a/.b", "/a/...", "/?a//b;c"]
)
def test_a_clear_path_is_delivered_as_it_was_judged(gateway: Gateway, pipeline: str, target: str) -> None:
    assert gateway.told(bearer(pipeline), target=target).target == gateway.differs.rewrites.get(target, target)


def test_a_path_given_with_a_host_is_judged_and_delivered_as_the_path_alone(gateway: Gateway, pipeline: str, reader: str) -> None:
    target = f"http://{HOST}/v1/things"
    assert gateway.told(bearer(pipeline), target=target, method="POST").target == "/v1/things"
    assert gateway.refused(bearer(reader), target=target, method="POST").status == 403
    assert gateway.refused(bearer(pipeline), target=f"http://{HOST}//v1/things").status in {400, 403}


@pytest.mark.parametrize(("method", "target"), [("CONNECT", "127.0.0.1:1"), ("CONNECT", "/"), ("OPTIONS", "*")])
def test_a_request_that_names_no_path_never_reaches_the_upstream(
    gateway: Gateway, pipeline: str, method: str, target: str
) -> None:
    before = len(gateway.upstream.arrived)
    gateway.ask(bearer(pipeline), method=method, target=target)  # programs in Go answer `OPTIONS *` themselves, with 200
    assert len(gateway.upstream.arrived) == before


@pytest.mark.parametrize("method", ["get", "GETz", "G-ET", "G", "X" * 40])
def test_an_odd_method_is_refused(gateway: Gateway, pipeline: str, method: str) -> None:
    reply = gateway.refused(bearer(pipeline), method=method)
    assert reply.status in {400, 403, 405}
    assert b"could not reach" not in reply.body


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "PROPFIND", "REPORT", "PURGE"])
def test_a_plain_method_is_delivered_as_it_was_judged(gateway: Gateway, pipeline: str, reader: str, method: str) -> None:
    assert gateway.told(bearer(pipeline), method=method).method == method
    assert gateway.refused(bearer(reader), method=method).status == 403


def test_a_method_that_nobody_knows_is_judged_too_or_refused(gateway: Gateway, pipeline: str, reader: str) -> None:
    assert gateway.refused(bearer(reader), method="FROBNICATE").status == (403 if gateway.differs.any_method else 400)
    if gateway.differs.any_method:
        assert gateway.told(bearer(pipeline), method="FROBNICATE").method == "FROBNICATE"
    else:
        assert gateway.refused(bearer(pipeline), method="FROBNICATE").status == 400


@pytest.mark.parametrize("host", ["a b", "exa_mple", "x" * 300, "a,b", "127.0.0.1:x", "", "[::1", "a/b", "a@b"])
def test_an_odd_host_is_refused(gateway: Gateway, pipeline: str, host: str) -> None:
    assert gateway.refused(bearer(pipeline), ("Host", host)).status in {400, 403}


def test_two_hosts_are_refused(gateway: Gateway, pipeline: str) -> None:
    assert gateway.refused(bearer(pipeline), ("Host", "a.example"), ("Host", "b.example")).status in {400, 403}


def smuggled(reader: str) -> dict[str, bytes]:
    """Return requests that hold another one, for a program that reads their length in another way than the gateway."""
    hidden = encode("POST", "/hidden", [bearer(reader)])
    chunks = b"0\r\n\r\n" + hidden
    length, other = ("Content-Length", str(len(hidden))), ("Content-Length", "0")
    chunked = ("Transfer-Encoding", "chunked")

    def request(*headers: tuple[str, str | bytes]) -> bytes:
        return encode("GET", "/", [bearer(reader), *headers])

    return {
        "length and chunks": request(length, chunked) + chunks,
        "chunks and length": request(chunked, length) + chunks,
        "no chunks": request(length, chunked) + hidden,
        "two lengths": request(length, other) + hidden,
        "two lengths in one": request(("Content-Length", f"{len(hidden)}, 0")) + hidden,
        "a signed length": request(("Content-Length", f"+{len(hidden)}")) + hidden,
        "an unknown coding": request(length, ("Transfer-Encoding", "xchunked")) + chunks,
        "chunked twice": request(length, ("Transfer-Encoding", "chunked, chunked")) + chunks,
        "a tab before the coding": request(length, ("Transfer-Encoding", "\tchunked")) + chunks,
        "a space after the name": request(length, ("Transfer-Encoding ", "chunked")) + chunks,
        "a folded line": request(length, ("X-Folded", "a\r\n Transfer-Encoding: chunked")) + chunks,
        "a bare line feed": request(length, ("X-Bare", "a\nTransfer-Encoding: chunked")) + chunks,
        "a bare return": request(length, ("X-Bare", "a\rTransfer-Encoding: chunked")) + chunks,
        "a chunk size that is none": request(chunked) + b"0x1\r\nx\r\n0\r\n\r\n" + hidden,
    }


@pytest.mark.parametrize("kind", sorted(smuggled("")))
def test_two_requests_in_one_are_not_smuggled_past_the_gateway(gateway: Gateway, reader: str, kind: str) -> None:
    before = len(gateway.upstream.arrived)
    with suppress(OSError, HTTPException):
        send(gateway.port, smuggled(reader)[kind], timeout=5)
    # What a gateway passed on, on a connection that it keeps, shows at the latest with the next request.
    assert gateway.ask(bearer(reader), target="/next").status == 200
    assert "/hidden" not in {arrived.target for arrived in gateway.upstream.arrived[before:]}


def test_a_trailer_does_not_become_an_identity(gateway: Gateway, reader: str) -> None:
    body = b"1\r\nx\r\n0\r\nX-Auth-Request-Role: admin\r\n\r\n"
    headers = [bearer(reader), ("Transfer-Encoding", "chunked"), ("Trailer", "X-Auth-Request-Role")]
    before = len(gateway.upstream.arrived)
    assert send(gateway.port, encode("GET", "/", headers) + body).status == 200
    arrived = gateway.upstream.arrived[before]
    assert gateway.identity(arrived)["role"] == "viewer"
    assert bool(arrived.trailers) == gateway.differs.passes_trailers


def test_a_head_that_is_too_large_is_refused(gateway: Gateway, pipeline: str) -> None:
    assert gateway.refused(bearer(pipeline), ("X-Long", "x" * 60_000)).status in {400, 403, 431}
    assert gateway.refused(bearer(pipeline), target="/" + "x" * 60_000).status in {400, 403, 414, 431}


@pytest.mark.parametrize("upgrade", ["h2c", "h2c, websocket", "websocket, h2c", "TLS/1.0", "connect-udp"])
def test_nothing_but_a_websocket_is_upgraded(gateway: Gateway, reader: str, upgrade: str) -> None:
    """On any other connection the client could go on to send what nobody judges."""
    headers = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", upgrade), ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")]
    before = len(gateway.upstream.arrived)
    reply = gateway.ask(bearer(reader), *headers)
    assert reply.status in {200, 400, 403, 404}
    for arrived in gateway.upstream.arrived[before:]:
        assert not arrived.all("Upgrade")
        assert not arrived.all("HTTP2-Settings")


def test_the_upstream_is_not_told_to_take_an_identity_away(gateway: Gateway, pipeline: str) -> None:
    """It may be another proxy, which obeys the Connection header that it gets."""
    arrived = gateway.told(bearer(pipeline), ("Connection", "close, X-Auth-Request-Email"), ("Keep-Alive", "timeout=9"))
    assert not any("x-auth-request" in value.lower() for value in arrived.all("Connection"))


def test_over_http_2_nothing_is_different_where_it_is_spoken(gateway: Gateway, pipeline: str, reader: str) -> None:
    forged = [word for name in NAMES for spelt in spellings(name) for word in ("-H", f"{spelt}: {EVIL}")]
    before = len(gateway.upstream.arrived)
    statuses = [
        http2(gateway, *forged, "-H", f"Authorization: Bearer {pipeline}"),
        http2(gateway, "-H", f"X-Auth-Request-Email: {EVIL}"),
        http2(gateway, "-X", "POST", "-H", f"Authorization: Bearer {reader}", "-H", "X-HTTP-Method-Override: GET"),
        http2(gateway, "-X", "POST", "-H", f"Authorization: Bearer {reader}", "-H", f"Host: {BILLING}.", target="/hooks/1"),
    ]
    if not gateway.differs.http2:
        assert statuses == [0] * 4
        return
    assert statuses[:3] == [200, 401, 403]
    assert [gateway.identity(arrived)["role"] for arrived in gateway.upstream.arrived[before:]] == ["user"]
    assert EVIL not in repr(gateway.upstream.arrived[before:])


def http2(gateway: Gateway, *options: str, target: str = "/v1/things") -> int:
    """Send a request over HTTP/2 without TLS, and return the status, 0 when that is not spoken."""
    curl = need_program("curl", hint="install Debian's curl package")
    address = f"http://{HOST}:{gateway.port}{target}"
    command = [curl, "-s", "--http2-prior-knowledge", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", *options, address]
    return int(subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout)
