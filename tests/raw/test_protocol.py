"""The fast path of the real server: the same answers as the slow path, in order, on connections that stay open."""

import json
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.http_client import HOST, OPEN, TARGET, Reply, answers, bearer, encode, question
from tests.servers import SkyAuth, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("raw"), pytest.mark.sqlite]


def converse(server: SkyAuth, raw: bytes, methods: Iterable[str]) -> list[Reply]:
    """Send bytes on a new connection and return the responses."""
    with socket.create_connection((HOST, server.port), timeout=20) as connection:
        connection.sendall(raw)
        return answers(connection, methods)


def test_a_cache_miss_and_the_cache_hits_after_it_have_the_same_answer(server: SkyAuth, token: str) -> None:
    first, *others = (converse(server, question(bearer(token)), ["GET"])[0] for _ in range(4))
    assert first.status == 200
    assert first.header("X-Auth-Request-Role") == "user"
    for other in others:
        assert (other.status, names(other), other.body) == (200, names(first), b"")
        assert [value for name, value in other.headers if name != "date"] == [v for name, v in first.headers if name != "date"]


def names(reply: Reply) -> list[str]:
    """Return the names of the headers, with Date (required by RFC 9110 section 6.6.1)."""
    assert reply.header("date")
    return [name for name, _ in reply.headers]


def test_pipelined_requests_are_answered_in_order_each_for_its_own_caller(server: SkyAuth, token: str) -> None:
    server.console("create_account", name="line-reader", role="viewer")
    reader = str(server.console("issue", account="line-reader"))
    credentials = list(
        islice(cycle([(bearer(token), "user"), (bearer(reader), "viewer"), (None, ""), (bearer("sky_x"), "")]), 200)
    )
    raw = b"".join(question(*([header] if header else [])) for header, _ in credentials)
    replies = converse(server, raw, ["GET"] * len(credentials))
    assert [reply.header("X-Auth-Request-Role") for reply in replies] == [role for _, role in credentials]
    assert [reply.status for reply in replies] == [200 if role else 401 for _, role in credentials]


def test_other_requests_in_a_pipeline_keep_their_order(server: SkyAuth, token: str) -> None:
    mixed = [question(bearer(token)), encode("GET", "/api/v1/nothing", [OPEN])] * 10
    replies = converse(server, b"".join(mixed), ["GET"] * 20)
    assert [reply.status for reply in replies] == [200, 404] * 10


def test_many_cache_hits_behind_a_slow_request_are_answered(server: SkyAuth, token: str) -> None:
    converse(server, question(bearer(token)), ["GET"])
    raw = encode("GET", "/sign-in", [OPEN]) + question(bearer(token)) * 2_000
    assert {reply.status for reply in converse(server, raw, ["GET"] * 2_001)} == {200}


def test_a_request_that_arrives_in_parts_is_answered(server: SkyAuth, token: str) -> None:
    raw = question(bearer(token)) * 3
    with socket.create_connection((HOST, server.port), timeout=20) as connection:
        for start in range(0, len(raw), 37):
            connection.sendall(raw[start : start + 37])
            time.sleep(0.005)
        assert [reply.status for reply in answers(connection, ["GET"] * 3)] == [200] * 3


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE"])
def test_the_method_of_the_verify_request_does_not_matter_on_the_fast_path_either(
    server: SkyAuth, token: str, method: str
) -> None:
    raw = question(bearer(token), method=method) * 2 + question(method=method) + question(bearer(token))
    replies = converse(server, raw, [method, method, method, "GET"])
    assert [reply.status for reply in replies] == [200, 200, 401, 200]
    assert (replies[2].body == b"") is (method == "HEAD")


def test_the_body_of_a_verify_request_is_ignored(server: SkyAuth, token: str) -> None:
    raw = question(bearer(token), method="POST", body=b"GET / HTTP/1.1\r\n\r\n" * 5_000) + question()
    assert [reply.status for reply in converse(server, raw, ["POST", "GET"])] == [200, 401]
    chunked = question(bearer(token), ("Transfer-Encoding", "chunked"), method="POST") + b"3\r\nabc\r\n0\r\n\r\n" + question()
    assert [reply.status for reply in converse(server, chunked, ["POST", "GET"])] == [200, 401]


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /authz/verify HTTP/1.0\r\n%s\r\n",
        b"GET /authz/verify HTTP/1.1\r\nHost: h\r\nConnection: close\r\n%s\r\n",
        b"GET /authz/verify HTTP/1.1\r\nHost: h\r\nConnection: close, X-Auth-Request-Email\r\n%s\r\n",
    ],
)
def test_a_request_with_connection_close_is_answered_and_the_connection_closed(server: SkyAuth, token: str, raw: bytes) -> None:
    name, value = bearer(token)
    lines = b"".join(f"{key}: {text}\r\n".encode() for key, text in TARGET) + f"{name}: ".encode() + value + b"\r\n"
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        connection.sendall(raw % lines)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.lower().count(b"connection: close") == 1


def test_a_client_that_disconnects_before_its_answer_affects_no_other(server: SkyAuth, token: str) -> None:
    for _ in range(200):
        with socket.create_connection((HOST, server.port), timeout=10) as connection:
            connection.sendall(question(bearer(token)) * 5)
    assert converse(server, question(bearer(token)), ["GET"])[0].status == 200
    assert "Traceback" not in server.log


def test_the_server_stops_reading_from_a_client_that_reads_nothing(server: SkyAuth, token: str) -> None:
    def resident() -> int:
        return int(Path(f"/proc/{server.programs[-1].process.pid}/statm").read_text(encoding="ascii").split()[1]) * 4_096

    before = resident()
    chunk = question(bearer(token)) * 100
    sent = 0
    with socket.create_connection((HOST, server.port), timeout=1) as connection:
        try:
            while sent < 100_000_000:
                sent += connection.send(chunk)
        except TimeoutError:
            pass
        assert sent < 20_000_000, "no more than the socket buffers hold"
        assert resident() - before < 30_000_000
        assert converse(server, question(bearer(token)), ["GET"])[0].status == 200


def test_promise_14_a_change_stops_the_next_request_of_a_cached_caller(server: SkyAuth) -> None:
    console = server.console
    console("create_user", name="line@example.com", role="user", password="correct horse battery staple")
    console("create_account", name="line-machine", role="user", owner="line@example.com")
    token = str(console("issue", account="line-machine"))
    with socket.create_connection((HOST, server.port), timeout=20) as connection:

        def ask(*headers: tuple[str, str], method: str = "GET") -> int:
            connection.sendall(
                question(*headers) if method == "GET" else question(*headers).replace(b"Method: GET", b"Method: POST")
            )
            return answers(connection, ["GET"])[0].status

        for _ in range(20):
            assert [ask(bearer(token)) for _ in range(3)] == [200] * 3
            console("set_active", name="line@example.com", active=False)
            assert ask(bearer(token)) == 401
            console("set_active", name="line@example.com", active=True)
            assert ask(bearer(token), method="POST") == 200
            console("set_role", name="line@example.com", role="viewer")
            assert ask(bearer(token), method="POST") == 403
            console("set_role", name="line@example.com", role="user")
        console("revoke", token=token)
        assert ask(bearer(token)) == 401


def test_a_refused_head_request_has_no_body_after_a_cached_200_either(server: SkyAuth) -> None:
    server.console("create_account", name="line-head", role="viewer")
    token = str(server.console("issue", account="line-head"))
    head = encode("HEAD", "/authz/envoy/a", [OPEN, bearer(token)])
    with socket.create_connection((HOST, server.port), timeout=20) as connection:
        for _ in range(2):
            connection.sendall(head)
            assert answers(connection, ["HEAD"])[0].status == 200
        server.console("revoke", token=token)
        connection.sendall(head)
        assert answers(connection, ["HEAD"])[0].status == 401
        connection.sendall(question())
        assert answers(connection, ["GET"])[0].status == 401, "the next response starts at the right byte"


def test_the_last_used_timestamp_is_written_soon_and_in_the_background(server: SkyAuth) -> None:
    server.console("create_account", name="line-used", role="viewer")
    token = str(server.console("issue", account="line-used"))
    assert server.console("last_used", token=token) is None
    assert converse(server, question(bearer(token), ("X-Forwarded-For", "198.51.100.4")), ["GET"])[0].status == 200
    wait_until(lambda: server.console("last_used", token=token) == "198.51.100.4", "the last-used timestamp is written")


@pytest.mark.parametrize("target", ["/authz/nginx", "/authz/envoy/jobs/17"])
def test_each_dialect_has_its_endpoint(server: SkyAuth, token: str, target: str) -> None:
    original = (("X-Original-Method", "GET"), ("X-Original-Host", HOST), ("X-Original-URI", "/jobs/17"))
    raw = encode("GET", target, [*original, OPEN, bearer(token)]) * 2
    assert [reply.status for reply in converse(server, raw, ["GET"] * 2)] == [200, 200]


def test_a_request_of_envoy_is_decided_by_its_own_method_host_and_path(server: SkyAuth) -> None:
    server.console("create_account", name="line-viewer", role="viewer")
    token = str(server.console("issue", account="line-viewer"))

    def ask(method: str, target: str, *headers: tuple[str, str]) -> Reply:
        return converse(server, encode(method, target, [OPEN, bearer(token), *headers]), [method])[0]

    assert ask("GET", "/authz/envoy/a?b=//c").status == 200
    assert ask("POST", "/authz/envoy/a").status == 403
    for path in ("//a", "/a/../b", "/%2e", "/a%2fb", "/a;b", ""):
        reply = ask("GET", f"/authz/envoy{path}")
        assert reply.status in {403, 404}, path
        assert not reply.header("X-Auth-Request-Email")
    assert ask("POST", "/authz/envoy/a", ("X-Forwarded-Method", "GET"), ("X-Envoy-Original-Method", "GET")).status == 403


def test_promise_24_a_request_target_with_a_fragment_gets_400(server: SkyAuth, token: str) -> None:
    for target in ("/authz/envoy/public#/../admin", "/authz/verify#", "/api/v1/whoami#x"):
        assert converse(server, question(bearer(token), target=target), ["GET"])[0].status == 400


FORGED = "X-Auth-Request-Email: alice@example.com\r\n"
CHUNKED = ("Transfer-Encoding", "chunked")


@pytest.mark.parametrize(
    "headers",
    [[OPEN], [("Connection", "close")], [OPEN, ("Expect", "100-continue")], [OPEN, ("Trailer", "X-Auth-Request-Email")]],
)
@pytest.mark.parametrize("target", ["/authz/verify", "/authz/envoy/x", "/api/v1/whoami", "/api/v1/users"])
@pytest.mark.parametrize("pieces", [1, 2])
def test_promise_01_a_trailer_is_no_header(server: SkyAuth, headers: list[tuple[str, str]], target: str, pieces: int) -> None:
    head = encode("POST", target, [*TARGET, *headers, CHUNKED])
    trailer = b"0\r\n" + FORGED.encode() + b"\r\n"
    with socket.create_connection((HOST, server.port), timeout=20) as connection:
        received = b""
        with suppress(OSError):  # the server can have closed the connection
            if pieces == 1:
                connection.sendall(head + trailer)
            else:
                connection.sendall(head)
                time.sleep(0.1)
                connection.sendall(trailer)
        connection.settimeout(3)
        with suppress(ConnectionResetError, TimeoutError):
            while chunk := connection.recv(65_536):
                received += chunk
    assert b"HTTP/1.1 200" not in received
    assert b"alice" not in received


def test_promise_01_a_trailer_of_a_pipelined_request_is_no_header(server: SkyAuth, token: str) -> None:
    raw = question(bearer(token)) + question(CHUNKED, method="POST") + b"0\r\n" + FORGED.encode() + b"\r\n"
    with socket.create_connection((HOST, server.port), timeout=20) as connection:
        connection.sendall(raw)
        connection.settimeout(3)
        received = b""
        with suppress(ConnectionResetError, TimeoutError):
            while chunk := connection.recv(65_536):
                received += chunk
    assert b"alice" not in received


def test_endless_trailers_are_cut_off(server: SkyAuth) -> None:
    head = question(CHUNKED, method="POST") + b"0\r\n"
    for endless in (b"a: \r\n" * 10_000, b"a" * 65_536):
        sent = 0
        with socket.create_connection((HOST, server.port), timeout=10) as connection, suppress(OSError):
            connection.sendall(head + b"X: ")
            while sent < 100_000_000:
                connection.sendall(endless)
                sent += len(endless)
        assert sent < 20_000_000


def test_promise_43_an_error_on_the_fast_path_leaves_the_decision_to_the_slow_path(server: SkyAuth, token: str) -> None:
    assert json.loads(converse(server, question(("Cookie", "skyauth=%s" % ("a" * 32))), ["GET"])[0].body)["status"] == 401
