"""The request line as bytes: only one exact path is the verify endpoint."""

import socket

import pytest

from tests.http_client import HOST, answers, bearer, encode, send
from tests.servers import SkyAuth

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("raw"), pytest.mark.sqlite]

TARGET = (("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", HOST), ("X-Forwarded-Uri", "/"))


@pytest.mark.parametrize(
    "target", ["/authz/verify", "/authz/verify?", "/authz/verify?next=/admin/", f"http://{HOST}/authz/verify"]
)
def test_the_verify_endpoint_ignores_its_query(server: SkyAuth, token: str, target: str) -> None:
    assert send(server.port, encode("GET", target, [*TARGET, bearer(token)])).status == 200


@pytest.mark.parametrize(
    "target",
    [
        "/authz/verify/", "//authz/verify", "/authz//verify", "/authz/%76erify", "/authz%2fverify", "/authz/./verify",
        "/x/../authz/verify", "/authz/verify;x", "/authz/verify%00", "/authz/verify%20", "/authz/Verify", "/AUTHZ/VERIFY",
        "/authz", "/", "/authz/verify\\", "/authz/verify/x", "authz/verify", "*",
    ],
)  # fmt: skip
def test_promise_23_a_path_similar_to_the_verify_endpoint_never_allows_a_request(
    server: SkyAuth, token: str, target: str
) -> None:
    reply = send(server.port, encode("GET", target, [*TARGET, bearer(token)]))
    assert reply.status in {301, 302, 400, 401, 403, 404}
    assert not any(reply.all("X-Auth-Request-Email"))


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("/authz/verify/", "Did you mean /authz/verify?"),
        ("/authz/verify//", "Did you mean /authz/verify?"),
        ("/authz/nginx/", "Did you mean /authz/nginx?"),
        ("/authz/nginx/answer/", "Did you mean /authz/nginx/answer?"),
        ("/authz/envoy", "Did you mean /authz/envoy/?"),
        (
            "/authz/verifyx",
            "The endpoints are /authz/verify (Caddy, Traefik, HAProxy), /authz/nginx (nginx) and /authz/envoy/ (Envoy).",
        ),
        ("/authz/", "The endpoints are"),
        ("/authz", "The endpoints are"),
    ],
)
def test_a_mistyped_endpoint_is_404_and_names_the_one_that_is_meant(server: SkyAuth, token: str, target: str, meant: str) -> None:
    headers = [*TARGET, bearer(token), ("Host", "api.example.com")]
    reply = send(server.port, encode("GET", target, headers))
    assert (reply.status, reply.json["code"]) == (404, "not-found")
    assert meant in reply.json["detail"]
    assert send(server.port, encode("HEAD", target, headers), method="HEAD").body == b""


@pytest.mark.parametrize("target", ["/authz/verify", "/healthz", "/api/v1/whoami", "/nothing"])
@pytest.mark.parametrize(
    ("hosts", "refused"), [([], True), ([HOST, HOST], True), ([HOST, "evil.example"], True), ([HOST], False), ([""], False)]
)
def test_a_request_without_exactly_one_host_is_400(
    server: SkyAuth, token: str, target: str, hosts: list[str], refused: bool
) -> None:
    """RFC 9112 section 3.2; a Host without a value is one."""
    headers = [*TARGET, bearer(token), *(("Host", host) for host in hosts)]
    reply = send(server.port, encode("GET", target, headers, host=None))
    if refused or target.startswith("/authz"):
        assert reply.status == (400 if refused else 200)
    if refused:
        assert not reply.all("X-Auth-Request-Role")


def test_http_1_0_needs_no_host(server: SkyAuth, token: str) -> None:
    raw = encode("GET", "/authz/verify", [*TARGET, bearer(token)], host=None).replace(b"HTTP/1.1", b"HTTP/1.0")
    assert send(server.port, raw).status == 200


def test_the_second_request_of_a_connection_needs_its_own_host(server: SkyAuth, token: str) -> None:
    first = encode("GET", "/authz/verify", [*TARGET, bearer(token), ("Connection", "keep-alive")])
    second = encode("GET", "/authz/verify", [*TARGET, bearer(token)], host=None)
    with socket.create_connection((HOST, server.port), timeout=20) as connection:
        connection.sendall(first)
        assert answers(connection, ["GET"])[0].status == 200
        connection.sendall(second)
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_the_method_of_the_verify_request_does_not_matter(server: SkyAuth, token: str, method: str) -> None:
    assert send(server.port, encode(method, "/authz/verify", [*TARGET, bearer(token)]), method=method).status == 200
    refused = send(server.port, encode(method, "/authz/verify", TARGET), method=method)
    assert refused.status == 401
    assert (refused.body == b"") == (method == "HEAD")


@pytest.mark.parametrize("method", ["GETz", "get", "G=T", "\x01"])
def test_a_verify_request_with_an_invalid_method_is_not_allowed(server: SkyAuth, token: str, method: str) -> None:
    assert send(server.port, encode(method, "/authz/verify", [*TARGET[1:], bearer(token)])).status in {400, 403}


def test_a_verify_request_with_a_body_is_answered_and_the_connection_stays_open(server: SkyAuth, token: str) -> None:
    first = encode("POST", "/authz/verify", [*TARGET, bearer(token), ("Connection", "keep-alive")], b"x" * 100_000)
    second = encode("GET", "/authz/verify", TARGET)
    reply = send(server.port, first + second)
    assert reply.status == 200


def test_promise_25_without_method_host_or_path_the_request_is_denied(server: SkyAuth, token: str) -> None:
    for missing in range(len(TARGET)):
        headers = [*TARGET[:missing], *TARGET[missing + 1 :], bearer(token)]
        assert send(server.port, encode("GET", "/authz/verify", headers)).json["code"] == "unreadable-target"


@pytest.mark.parametrize(
    "uri",
    ["/admin#/public", "/public?/../admin", "/%2561dmin", "//evil/admin", "http://x/admin", "?", "", "/public?q=z\xc3\xbcrich"],
)
def test_promise_24_the_query_does_not_decide(server: SkyAuth, token: str, uri: str) -> None:
    headers = [*TARGET[:2], ("X-Forwarded-Uri", uri), bearer(token)]
    reply = send(server.port, encode("GET", "/authz/verify", headers))
    assert reply.status == (200 if uri in ("/public?/../admin", "/public?q=z\xc3\xbcrich") else 403)


def test_promise_28_every_answer_has_every_identity_header(server: SkyAuth, token: str) -> None:
    names = [f"X-Auth-Request-{name}" for name in ("Email", "User", "Groups", "Role", "Method")]
    for headers in ([*TARGET, bearer(token)], TARGET, [], [*TARGET, bearer("sky_x")]):
        reply = send(server.port, encode("GET", "/authz/verify", list(headers)))
        assert [len(reply.all(name)) for name in names] == [1] * len(names)


def test_promise_29_the_answer_is_one_of_four(server: SkyAuth, token: str) -> None:
    odd = [b"\xff" * 50, b"\xc3\xa9", b"%", b"x" * 9_000, b"\\", b" ", b"-1", b"{}"]
    statuses = {
        send(server.port, encode("GET", "/authz/verify", [*TARGET, (name, value)])).status
        for name in (
            "Authorization",
            "Cookie",
            "X-Skypilot-Auth-Mode",
            "X-Auth-Request-Email",
            "X-Forwarded-For",
            "X-Forwarded-Proto",
        )
        for value in odd
    }
    assert statuses <= {200, 401, 403, 503}
    assert 401 in statuses
    assert 503 not in statuses
