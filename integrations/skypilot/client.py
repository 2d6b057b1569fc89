"""The one client of the SkyPilot API server behind SkyAuth (SKYPILOT_URL): it asks, and believes only what answers there.

It follows no redirect and no proxy of the environment: what it sends may name an administrator. Every question has an end,
also where the body drips.
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

TIMEOUT_SECONDS: Final = 3.0
MAX_BYTES: Final = 1_000_000


class UpstreamUnavailable(Exception):
    """The server cannot be asked, or its answer cannot be read: trouble of ours (503), not the caller's."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered; the names of the headers are in lower case, and of a repeated one the last counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """Return the body's value. Raises UpstreamUnavailable when it is no JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise UpstreamUnavailable("The SkyPilot API server answered with something that is no JSON.") from None


def ask(
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    timeout: float = TIMEOUT_SECONDS,
) -> Reply:
    """Return the answer to one request, whatever its status; `body` goes as JSON, `timeout` seconds are all that it may take.

    Raises UpstreamUnavailable. Blocks: never call it in the event loop.
    """
    until = time.monotonic() + timeout
    connection, prefix = _connection(timeout)
    sent = {"Accept": "application/json", **({} if body is None else {"Content-Type": "application/json"}), **(headers or {})}
    try:
        connection.request(method, prefix + path, body=None if body is None else json.dumps(body).encode(), headers=sent)
        with _cut_at(until, connection.sock):
            response = _begun(connection, until)
            content = _read(connection, response, until)
    except (OSError, HTTPException, ValueError) as error:  # ValueError: a path or header that HTTP has no form for
        raise UpstreamUnavailable(f"The SkyPilot API server does not answer: {type(error).__name__}.") from None
    finally:
        connection.close()
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, content)


def _connection(timeout: float) -> tuple[HTTPConnection, str]:
    """Return a connection to SKYPILOT_URL, not yet made, and the path in front of every path. Raises UpstreamUnavailable."""
    parts = urlsplit(settings.SKYPILOT_URL)
    if not parts.hostname:
        raise UpstreamUnavailable("There is no SkyPilot API server: SKYPILOT_URL is empty.")
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname, parts.port, timeout=timeout), parts.path


def _begun(connection: HTTPConnection, until: float) -> HTTPResponse:
    _hurry(connection, until)
    return connection.getresponse()


def _read(connection: HTTPConnection, response: HTTPResponse, until: float) -> bytes:
    """Return the body, piece by piece, so that the end of the patience is looked at between two of them."""
    pieces: list[bytes] = []
    size = 0
    while piece := response.read1(65_536):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_BYTES:
            raise HTTPException("The answer is too large.")
        _hurry(connection, until)
    if response.length:  # `read1` does not say that the connection ended before the body did
        raise HTTPException("The answer is not whole.")
    return b"".join(pieces)


@contextmanager
def _cut_at(until: float, sock: socket.socket) -> Iterator[None]:
    """Cut the connection when the time is over: one that drips byte by byte never lets a single step take too long."""
    alarm = threading.Timer(until - time.monotonic(), _cut, (sock,))
    alarm.daemon = True
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()
        if time.monotonic() >= until:  # what was cut off may look whole
            raise TimeoutError


def _cut(sock: socket.socket) -> None:
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # the connection's own, also below TLS


def _hurry(connection: HTTPConnection, until: float) -> None:
    """Let the next step take no longer than is left. Raises TimeoutError."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    if connection.sock is not None:  # an answer that ends the connection has taken the socket with it
        connection.sock.settimeout(left)
