"""The request line as bytes: only one exact path is the verify endpoint."""

import pytest

from tests.http_client import HOST, bearer, encode, send
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


@pytest.mark.parametrize("uri", ["/admin#/public", "/public?/../admin", "/%2561dmin", "//evil/admin", "http://x/admin", "?", ""])
def test_promise_24_the_query_does_not_decide(server: SkyAuth, token: str, uri: str) -> None:
    headers = [*TARGET[:2], ("X-Forwarded-Uri", uri), bearer(token)]
    reply = send(server.port, encode("GET", "/authz/verify", headers))
    assert reply.status == (200 if uri == "/public?/../admin" else 403)


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
