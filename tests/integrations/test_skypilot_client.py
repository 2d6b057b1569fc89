"""The client of the SkyPilot server: time limits, no redirects, and no response that cannot be read."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from integrations.skypilot import client
from integrations.skypilot.client import UpstreamUnavailable, ask
from tests.http_client import HOST

Handler = Callable[[socket.socket], None]


@contextmanager
def server(handler: Handler) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the port of a server that passes its one connection to the handler, and the requests it received."""
    requests: list[bytes] = []

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            requests.append(_request(connection))
            handler(connection)

    with socket.create_server((HOST, 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1], requests
        thread.join(5)


def _request(connection: socket.socket) -> bytes:
    """Return a request with its body, which can arrive in several parts."""
    raw = b""
    while b"\r\n\r\n" not in raw or (b"POST" in raw and not raw.endswith(b"}")):
        raw += connection.recv(65_536)
    return raw


def answering(raw: bytes) -> Handler:
    return lambda connection: connection.sendall(raw)


def test_the_request_and_the_response_of_one_call(settings: Any) -> None:
    raw = b'HTTP/1.1 201 Created\r\nX-A: 1\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{"a": 1}'
    with server(answering(raw)) as (port, requests):
        settings.SKYPILOT_URL = f"http://{HOST}:{port}/behind"
        reply = ask("POST", "/users/update", headers={"X-Auth-Request-Email": "bob@example.com"}, body={"role": "user"})
    assert (reply.status, reply.headers["x-a"], reply.json()) == (201, "1", {"a": 1})
    head, body = requests[0].split(b"\r\n\r\n")
    assert head.startswith(b"POST /behind/users/update HTTP/1.1\r\n")
    assert b"\r\nContent-Type: application/json" in head
    assert b"\r\nX-Auth-Request-Email: bob@example.com" in head
    assert body == b'{"role": "user"}'


def test_a_redirect_is_returned_and_not_followed(settings: Any) -> None:
    with server(answering(b"HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")) as (port, _):
        settings.SKYPILOT_URL = f"http://{HOST}:{port}"
        assert ask("GET", "/").status == 307


def test_a_proxy_of_the_environment_is_not_used(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with server(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as (port, _):
        settings.SKYPILOT_URL = f"http://{HOST}:{port}"
        assert ask("GET", "/").status == 200


def _silent(connection: socket.socket) -> None:
    connection.recv(1)


def _slow(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    with suppress(OSError):  # the client has closed the connection
        for _ in range(100):
            connection.sendall(b"x")
            time.sleep(0.02)


@pytest.mark.parametrize("handler", [_silent, _slow])
def test_every_request_has_a_time_limit(settings: Any, handler: Handler) -> None:
    with server(handler) as (port, _):
        settings.SKYPILOT_URL = f"http://{HOST}:{port}"
        started = time.monotonic()
        with pytest.raises(UpstreamUnavailable, match="TimeoutError"):
            ask("GET", "/", timeout=0.3)
        assert time.monotonic() - started < 1.5


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"220 smtp ready\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (client.MAX_BYTES + 1),
    ],
    ids=["nothing", "no HTTP", "half of it", "half of its chunks", "too much"],
)
def test_an_incomplete_or_invalid_response_is_refused(settings: Any, raw: bytes) -> None:
    def answer(connection: socket.socket) -> None:
        with suppress(OSError):  # the client has closed the connection
            connection.sendall(raw)

    with server(answer) as (port, _):
        settings.SKYPILOT_URL = f"http://{HOST}:{port}"
        with pytest.raises(UpstreamUnavailable):
            ask("GET", "/")


@pytest.mark.parametrize("raw", [b"<html>", b"[" * 100_000, b"\xff"])
def test_a_body_that_is_not_json_is_refused(raw: bytes) -> None:
    with pytest.raises(UpstreamUnavailable):
        client.Reply(200, {}, raw).json()


@pytest.mark.parametrize("url", ["", f"http://{HOST}:1", f"https://{HOST}:1"])
def test_an_unreachable_or_unconfigured_server_is_unavailable(settings: Any, url: str) -> None:
    settings.SKYPILOT_URL = url
    with pytest.raises(UpstreamUnavailable):
        ask("GET", "/")


@pytest.mark.parametrize(("path", "value"), [("/a b", "x"), ("/", "x\r\nX-Role: admin"), ("/", "\u20ac")])
def test_a_path_or_header_value_cannot_add_to_the_request(settings: Any, path: str, value: str) -> None:
    settings.SKYPILOT_URL = f"http://{HOST}:1"
    with pytest.raises(UpstreamUnavailable):
        ask("GET", path, headers={"X-Auth-Request-Email": value})


@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1;"]
)
def test_a_response_that_arrives_byte_by_byte_has_a_time_limit_too(settings: Any, start: bytes) -> None:
    def send_slowly(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.sendall(start)
            for _ in range(60):
                time.sleep(0.05)
                connection.sendall(b"a")

    with server(send_slowly) as (port, _):
        settings.SKYPILOT_URL = f"http://{HOST}:{port}"
        started = time.monotonic()
        with pytest.raises(UpstreamUnavailable):
            ask("GET", "/", timeout=0.5)
        assert time.monotonic() - started < 1.5
