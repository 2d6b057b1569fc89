"""The HTTP client of the SkyPilot API server behind SkyAuth (SKYPILOT_URL).

It follows no redirect and uses no proxy of the environment, because its requests can carry an administrator's identity. Every
request has a time limit, also when the server sends the body byte by byte.
"""

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings

from core.text import clean

TIMEOUT_SECONDS: Final = 3.0
MAX_BYTES: Final = 1_000_000
MAX_REASON: Final = 1_000  # characters
# The server refuses this one request, which is no outage. With another 4xx it refuses every request, or for now.
REFUSALS: Final = frozenset({400, 403, 409, 422})


class UpstreamUnavailable(Exception):
    """The server does not answer, or its response cannot be read: the caller gets 503."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response of the server. Header names are in lower case; of a repeated header, only the last value is kept."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """Return the parsed body. Raises UpstreamUnavailable when it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise UpstreamUnavailable("The SkyPilot API server returned a body that is not JSON.") from None


def reason_of(reply: Reply) -> str:
    """Return the server's sentence in an error response as one line, or its status where there is none."""
    with suppress(UpstreamUnavailable):
        match reply.json():
            case {"detail": str(sentence)} | str(sentence) if sentence.strip():
                return clean(" ".join(sentence.split()), MAX_REASON)
    return f"status {reply.status}"


def ask(
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    timeout: float = TIMEOUT_SECONDS,
    max_bytes: int = MAX_BYTES,
) -> Reply:
    """Send one request and return the response, whatever its status. `body` is sent as JSON; `timeout` is in seconds.

    Raises UpstreamUnavailable. Blocks: never call it in the event loop.
    """
    deadline = time.monotonic() + timeout
    connection, prefix = _connection(timeout)
    lines = {"Accept": "application/json", **({} if body is None else {"Content-Type": "application/json"}), **(headers or {})}
    try:
        connection.request(method, prefix + path, body=None if body is None else json.dumps(body).encode(), headers=lines)
        with _cut_at(deadline, connection.sock):
            response = _response(connection, deadline)
            content = _read(connection, response, deadline, max_bytes)
    except (OSError, HTTPException, ValueError) as error:  # ValueError: a path or header that HTTP cannot express
        raise UpstreamUnavailable(f"The SkyPilot API server does not answer: {type(error).__name__}.") from None
    finally:
        connection.close()
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, content)


def _connection(timeout: float) -> tuple[HTTPConnection, str]:
    """Return an unopened connection to SKYPILOT_URL, and the prefix of every path. Raises UpstreamUnavailable."""
    parts = urlsplit(settings.SKYPILOT_URL)
    if not parts.hostname:
        raise UpstreamUnavailable("No SkyPilot API server is configured: SKYPILOT_URL is empty.")
    connection_class = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return connection_class(parts.hostname, parts.port, timeout=timeout), parts.path


def _response(connection: HTTPConnection, deadline: float) -> HTTPResponse:
    _set_timeout(connection, deadline)
    return connection.getresponse()


def _read(connection: HTTPConnection, response: HTTPResponse, deadline: float, max_bytes: int) -> bytes:
    """Return the body. It is read in chunks, with the remaining time as the time-out of each."""
    chunks: list[bytes] = []
    size = 0
    while chunk := response.read1(65_536):
        chunks.append(chunk)
        size += len(chunk)
        if size > max_bytes:
            raise HTTPException("The body is too large.")
        _set_timeout(connection, deadline)
    if response.length:  # `read1` does not raise when the connection ends before the body
        raise HTTPException("The body is incomplete.")
    return b"".join(chunks)


@contextmanager
def _cut_at(deadline: float, sock: socket.socket) -> Iterator[None]:
    """Shut the connection down at the deadline: a server that sends byte by byte never exceeds the socket's own time-out."""
    timer = threading.Timer(deadline - time.monotonic(), _cut, (sock,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if time.monotonic() >= deadline:  # a response that was cut off can look complete
            raise TimeoutError


def _cut(sock: socket.socket) -> None:
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # the TCP socket, also under TLS


def _set_timeout(connection: HTTPConnection, deadline: float) -> None:
    """Set the remaining time as the time-out of the next operation. Raises TimeoutError."""
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    if connection.sock is not None:  # a response that ends the connection has closed the socket
        connection.sock.settimeout(remaining)
