"""The short way of the running server: the same answers as the long one, in order, on connections that stay open."""

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
    """Send bytes on a new connection and return the answers."""
    with socket.create_connection((HOST, server.port), timeout=20) as connection:
        connection.sendall(raw)
        return answers(connection, methods)


def test_the_first_question_and_the_ones_after_it_have_the_same_answer(server: SkyAuth, token: str) -> None:
    first, *others = (converse(server, question(bearer(token)), ["GET"])[0] for _ in range(4))
    assert first.status == 200
    assert first.header("X-Auth-Request-Role") == "user"
    for other in others:
        assert (other.status, names(other), other.body) == (200, names(first), b"")
        assert [value for name, value in other.headers if name != "date"] == [v for name, v in first.headers if name != "date"]


def names(reply: Reply) -> list[str]:
    """Return the names of an answer's headers, the date's too (RFC 9110 section 6.6.1 wants one)."""
    assert reply.header("date")
    return [name for name, _ in reply.headers]


def test_questions_sent_in_one_go_are_answered_in_order_each_for_its_own_caller(server: SkyAuth, token: str) -> None:
    server.console("create_account", name="line-reader", role="viewer")
    reader = str(server.console("issue", account="line-reader"))
    asked = list(islice(cycle([(bearer(token), "user"), (bearer(reader), "viewer"), (None, ""), (bearer("sky_x"), "")]), 200))
    raw = b"".join(question(*([header] if header else [])) for header, _ in asked)
    replies = converse(server, raw, ["GET"] * len(asked))
    assert [reply.header("X-Auth-Request-Role") for reply in replies] == [role for _, role in asked]
    assert [reply.status for reply in replies] == [200 if role else 401 for _, role in asked]


def test_other_requests_among_them_keep_their_place(server: SkyAuth, token: str) -> None:
    mixed = [question(bearer(token)), encode("GET", "/api/v1/nothing", [OPEN])] * 10
    replies = converse(server, b"".join(mixed), ["GET"] * 20)
    assert [reply.status for reply in replies] == [200, 404] * 10


def test_a_row_of_remembered_questions_behind_a_slow_one_ends_well(server: SkyAuth, token: str) -> None:
    converse(server, question(bearer(token)), ["GET"])
    raw = encode("GET", "/admin/login/", [OPEN]) + question(bearer(token)) * 2_000
    assert {reply.status for reply in converse(server, raw, ["GET"] * 2_001)} == {200}


def test_a_question_that_comes_in_pieces_is_answered(server: SkyAuth, token: str) -> None:
    raw = question(bearer(token)) * 3
    with socket.create_connection((HOST, server.port), timeout=20) as connection:
        for start in range(0, len(raw), 37):
            connection.sendall(raw[start : start + 37])
            time.sleep(0.005)
        assert [reply.status for reply in answers(connection, ["GET"] * 3)] == [200] * 3


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE"])
def test_the_method_of_the_question_does_not_matter_on_the_short_way_either(server: SkyAuth, token: str, method: str) -> None:
    raw = question(bearer(token), method=method) * 2 + question(method=method) + question(bearer(token))
    replies = converse(server, raw, [method, method, method, "GET"])
    assert [reply.status for reply in replies] == [200, 200, 401, 200]
    assert (replies[2].body == b"") is (method == "HEAD")


def test_a_body_is_passed_over(server: SkyAuth, token: str) -> None:
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
def test_who_wants_the_connection_closed_is_answered_and_it_is(server: SkyAuth, token: str, raw: bytes) -> None:
    name, value = bearer(token)
    lines = b"".join(f"{key}: {text}\r\n".encode() for key, text in TARGET) + f"{name}: ".encode() + value + b"\r\n"
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        connection.sendall(raw % lines)
        received = b""
        while piece := connection.recv(65_536):
            received += piece
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.lower().count(b"connection: close") == 1


def test_a_client_that_goes_before_its_answer_harms_nobody(server: SkyAuth, token: str) -> None:
    for _ in range(200):
        with socket.create_connection((HOST, server.port), timeout=10) as connection:
            connection.sendall(question(bearer(token)) * 5)
    assert converse(server, question(bearer(token)), ["GET"])[0].status == 200
    assert "Traceback" not in server.log


def test_a_client_that_reads_nothing_is_not_read_from_for_ever(server: SkyAuth, token: str) -> None:
    def resident() -> int:
        return int(Path(f"/proc/{server.programs[-1].process.pid}/statm").read_text(encoding="ascii").split()[1]) * 4_096

    before = resident()
    piece = question(bearer(token)) * 100
    sent = 0
    with socket.create_connection((HOST, server.port), timeout=1) as connection:
        try:
            while sent < 100_000_000:
                sent += connection.send(piece)
        except TimeoutError:
            pass
        assert sent < 20_000_000, "what the sockets' buffers hold, and not more"
        assert resident() - before < 30_000_000
        assert converse(server, question(bearer(token)), ["GET"])[0].status == 200


def test_promise_14_what_stops_a_remembered_caller_stops_their_next_request(server: SkyAuth) -> None:
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


def test_a_refusal_of_a_head_request_has_no_body_even_when_it_comes_instead_of_a_remembered_yes(server: SkyAuth) -> None:
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
        assert answers(connection, ["GET"])[0].status == 401, "the next answer begins where it should"


def test_a_use_is_noted_soon_and_in_the_background(server: SkyAuth) -> None:
    server.console("create_account", name="line-used", role="viewer")
    token = str(server.console("issue", account="line-used"))
    assert server.console("last_used", token=token) is None
    assert converse(server, question(bearer(token), ("X-Forwarded-For", "198.51.100.4")), ["GET"])[0].status == 200
    wait_until(lambda: server.console("last_used", token=token) == "198.51.100.4", "the use is noted")


@pytest.mark.parametrize("target", ["/authz/nginx", "/authz/envoy/jobs/17"])
def test_each_dialect_has_its_endpoint(server: SkyAuth, token: str, target: str) -> None:
    told = (("X-Original-Method", "GET"), ("X-Original-Host", HOST), ("X-Original-URI", "/jobs/17"))
    raw = encode("GET", target, [*told, OPEN, bearer(token)]) * 2
    assert [reply.status for reply in converse(server, raw, ["GET"] * 2)] == [200, 200]


def test_envoys_question_is_judged_by_its_own_method_host_and_path(server: SkyAuth) -> None:
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


def test_promise_24_a_request_target_with_a_fragment_is_no_request(server: SkyAuth, token: str) -> None:
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
        with suppress(OSError):  # the server may be gone by then
            if pieces == 1:
                connection.sendall(head + trailer)
            else:
                connection.sendall(head)
                time.sleep(0.1)
                connection.sendall(trailer)
        connection.settimeout(3)
        with suppress(ConnectionResetError, TimeoutError):
            while piece := connection.recv(65_536):
                received += piece
    assert b"HTTP/1.1 200" not in received
    assert b"alice" not in received


def test_promise_01_a_trailer_of_a_question_behind_another_one_is_no_header(server: SkyAuth, token: str) -> None:
    raw = question(bearer(token)) + question(CHUNKED, method="POST") + b"0\r\n" + FORGED.encode() + b"\r\n"
    with socket.create_connection((HOST, server.port), timeout=20) as connection:
        connection.sendall(raw)
        connection.settimeout(3)
        received = b""
        with suppress(ConnectionResetError, TimeoutError):
            while piece := connection.recv(65_536):
                received += piece
    assert b"alice" not in received


def test_trailers_without_an_end_are_cut_off(server: SkyAuth) -> None:
    head = question(CHUNKED, method="POST") + b"0\r\n"
    for endless in (b"a: \r\n" * 10_000, b"a" * 65_536):
        sent = 0
        with socket.create_connection((HOST, server.port), timeout=10) as connection, suppress(OSError):
            connection.sendall(head + b"X: ")
            while sent < 100_000_000:
                connection.sendall(endless)
                sent += len(endless)
        assert sent < 20_000_000


def test_promise_43_what_goes_wrong_on_the_short_way_is_left_to_the_long_one(server: SkyAuth, token: str) -> None:
    assert json.loads(converse(server, question(("Cookie", "skyauth=%s" % ("a" * 32))), ["GET"])[0].body)["status"] == 401
