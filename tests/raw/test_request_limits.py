"""What a stranger can make the running server hold: heads, bodies, threads."""

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from core.request_limits import HEAD_SECONDS, MAX_BODY, MAX_HEAD
from tests.http_client import HOST, ask, bearer, encode, send
from tests.servers import SkyAuth

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("raw"), pytest.mark.sqlite]


def memory(server: SkyAuth) -> int:
    """Return the resident memory of the server in bytes."""
    pages = Path(f"/proc/{server.programs[-1].process.pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


def pour(port: int, head: bytes, piece: bytes, most: int) -> int:
    """Send the head and then pieces until the server ends the connection, or `most` bytes are sent; return how many were."""
    sent = 0
    with socket.create_connection((HOST, port), timeout=10) as connection:
        try:
            connection.sendall(head)
            while sent < most:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
    return sent


def test_a_header_without_an_end_is_cut_off_and_not_kept(server: SkyAuth) -> None:
    before = memory(server)
    sent = pour(server.port, b"GET /authz/verify HTTP/1.1\r\nHost: h\r\nX-Long: ", b"a" * 65_536, 100_000_000)
    assert sent < 20_000_000, "what the socket's buffers hold, and not more"
    assert memory(server) - before < 20_000_000
    assert server.ask().status == 401


def test_many_short_headers_without_an_end_are_cut_off_too(server: SkyAuth) -> None:
    sent = pour(server.port, b"GET / HTTP/1.1\r\nHost: h\r\n", b"X-A: b\r\n" * 8_000, 100_000_000)
    assert sent < 20_000_000


def test_a_head_just_below_the_bound_is_answered(server: SkyAuth) -> None:
    request = encode("GET", "/authz/verify", [("X-Long", "a" * (MAX_HEAD - 1_000))])
    assert send(server.port, request).status == 403


def test_a_half_request_is_not_waited_for(server: SkyAuth) -> None:
    with socket.create_connection((HOST, server.port), timeout=HEAD_SECONDS + 10) as connection:
        connection.sendall(b"GET /authz/verify HTTP/1.1\r\nHost: h\r\nX-Slow: ")
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b"", "the server ends the connection"


def test_a_large_body_in_one_piece_with_its_head_counts_as_no_head(server: SkyAuth, token: str) -> None:
    for _ in range(2):
        reply = ask(
            server.port,
            "/api/v1/users",
            [bearer(token), ("Content-Type", "application/json")],
            method="POST",
            body=b" " * 200_000,
        )
        assert reply.status == 403, "read to its end, and judged"


def test_requests_one_after_another_on_one_connection_are_all_answered(server: SkyAuth) -> None:
    request = b"GET /authz/verify HTTP/1.1\r\nHost: h\r\nX-Fill: " + b"a" * 20_000 + b"\r\n\r\n"
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        for _ in range(20):
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"}"):  # the body is one JSON object
                answer += connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_larger_than_anything_here_takes_is_refused_before_it_is_kept(server: SkyAuth, chunked: bool) -> None:
    before = memory(server)
    if chunked:
        head = b"POST /admin/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        sent = pour(server.port, head, b"10000\r\n" + b"a" * 65_536 + b"\r\n", 100_000_000)
    else:
        head = b"POST /admin/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000000\r\n\r\n"
        sent = pour(server.port, head, b"a" * 65_536, 100_000_000)
    assert sent < 5 * MAX_BODY, "the connection is ended soon after the bound"
    assert memory(server) - before < 8 * MAX_BODY


def test_a_body_that_does_not_come_holds_no_place_of_others(server: SkyAuth) -> None:
    waiting = []
    try:
        for _ in range(60):
            connection = socket.create_connection((HOST, server.port), timeout=10)
            connection.sendall(b"POST /admin/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n")
            waiting.append(connection)
        assert ask(server.port, "/admin/login/").status == 200
        assert server.ask().status == 401
    finally:
        for connection in waiting:
            connection.close()


def test_many_requests_at_once_take_a_bounded_number_of_threads(server: SkyAuth) -> None:
    most = 0
    done = threading.Event()
    status: list[int] = []

    def hit() -> None:
        while not done.is_set():
            status.append(ask(server.port, "/admin/login/").status)

    threads = [threading.Thread(target=hit) for _ in range(60)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            most = max(most, len(list(Path(f"/proc/{server.programs[-1].process.pid}/task").iterdir())))
            time.sleep(0.1)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert set(status) == {200}
    assert most < 60
