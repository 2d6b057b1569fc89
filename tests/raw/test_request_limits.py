"""The limits of the real server on headers, bodies and threads."""

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


def flood(port: int, head: bytes, chunk: bytes, limit: int) -> int:
    """Send the head and then chunks until the server closes the connection or `limit` bytes are sent; return how many were."""
    sent = 0
    with socket.create_connection((HOST, port), timeout=10) as connection:
        try:
            connection.sendall(head)
            while sent < limit:
                connection.sendall(chunk)
                sent += len(chunk)
        except OSError:
            pass
    return sent


def test_an_endless_header_is_cut_off_and_not_kept_in_memory(server: SkyAuth) -> None:
    before = memory(server)
    sent = flood(server.port, b"GET /authz/verify HTTP/1.1\r\nHost: h\r\nX-Long: ", b"a" * 65_536, 100_000_000)
    assert sent < 20_000_000, "no more than the socket buffers hold"
    assert memory(server) - before < 20_000_000
    assert server.ask().status == 401


def test_an_endless_number_of_headers_is_cut_off_too(server: SkyAuth) -> None:
    sent = flood(server.port, b"GET / HTTP/1.1\r\nHost: h\r\n", b"X-A: b\r\n" * 8_000, 100_000_000)
    assert sent < 20_000_000


def test_headers_just_below_the_limit_are_answered(server: SkyAuth) -> None:
    request = encode("GET", "/authz/verify", [("X-Long", "a" * (MAX_HEAD - 1_000))])
    assert send(server.port, request).status == 403


def test_an_incomplete_request_times_out(server: SkyAuth) -> None:
    with socket.create_connection((HOST, server.port), timeout=HEAD_SECONDS + 10) as connection:
        connection.sendall(b"GET /authz/verify HTTP/1.1\r\nHost: h\r\nX-Slow: ")
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b"", "the server closes the connection"


def test_a_large_body_sent_together_with_its_headers_does_not_count_as_headers(server: SkyAuth, token: str) -> None:
    for _ in range(2):
        reply = ask(
            server.port,
            "/api/v1/users",
            [bearer(token), ("Content-Type", "application/json")],
            method="POST",
            body=b" " * 200_000,
        )
        assert reply.status == 403, "the body was read, and the request was decided"


def test_the_limit_of_headers_counts_for_each_request_of_a_connection(server: SkyAuth) -> None:
    request = b"GET /authz/verify HTTP/1.1\r\nHost: h\r\nX-Fill: " + b"a" * 20_000 + b"\r\n\r\n"
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        for _ in range(20):
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"}"):  # the body is one JSON object
                answer += connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("chunked", [False, True])
def test_an_oversized_body_is_refused_before_it_is_in_memory(server: SkyAuth, chunked: bool) -> None:
    before = memory(server)
    if chunked:
        head = b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        sent = flood(server.port, head, b"10000\r\n" + b"a" * 65_536 + b"\r\n", 100_000_000)
    else:
        head = b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000000\r\n\r\n"
        sent = flood(server.port, head, b"a" * 65_536, 100_000_000)
    assert sent < 5 * MAX_BODY, "the connection is closed soon after the limit"
    assert memory(server) - before < 8 * MAX_BODY


def test_requests_without_their_body_do_not_block_others(server: SkyAuth) -> None:
    waiting = []
    try:
        for _ in range(60):
            connection = socket.create_connection((HOST, server.port), timeout=10)
            connection.sendall(b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n")
            waiting.append(connection)
        assert ask(server.port, "/sign-in").status == 200
        assert server.ask().status == 401
    finally:
        for connection in waiting:
            connection.close()


def test_concurrent_requests_use_a_limited_number_of_threads(server: SkyAuth) -> None:
    most = 0
    done = threading.Event()
    status: list[int] = []

    def hit() -> None:
        while not done.is_set():
            status.append(ask(server.port, "/sign-in").status)

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
