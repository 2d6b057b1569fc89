"""HTTP as bytes on a socket. A client library would tidy up exactly what these tests are about."""

import base64
import json
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPResponse
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

HOST = "127.0.0.1"
Headers = Iterable[tuple[str | bytes, str | bytes]]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came: `headers` keep their order and repeats."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """Return the one value of a header, or None. Fails when it came more than once."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def encode(method: str, target: str | bytes, headers: Headers = (), body: bytes = b"", *, host: str | None = HOST) -> bytes:
    """Return the bytes of a request, with nothing added but Host, Content-Length where there is a body, and Connection."""
    lines = [b"%s %s HTTP/1.1" % (method.encode(), _bytes(target))]
    names = {_bytes(name).lower() for name, _ in headers}
    if host is not None and b"host" not in names:
        lines.append(b"Host: " + host.encode())
    lines += [_bytes(name) + b": " + _bytes(value) for name, value in headers]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    if b"connection" not in names:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def send(port: int, raw: bytes, *, source: str = HOST, method: str = "GET", timeout: float = 30) -> Reply:
    """Send raw bytes from the source address and return the answer. Raises OSError or HTTPException when there is none."""
    with (
        socket.create_connection((HOST, port), timeout=timeout, source_address=(source, 0)) as connection,
        HTTPResponse(connection, method=method) as response,
    ):
        connection.sendall(raw)
        response.begin()
        return Reply(response.status, tuple(response.getheaders()), response.read())


def ask(
    port: int,
    target: str | bytes = "/",
    headers: Headers = (),
    *,
    method: str = "GET",
    body: bytes = b"",
    source: str = HOST,
) -> Reply:
    """Send one request and return the answer."""
    return send(port, encode(method, target, list(headers), body), source=source, method=method)


def bearer(token: str | bytes) -> tuple[str, bytes]:
    """Return the Authorization header of a token."""
    return "Authorization", b"Bearer " + _bytes(token)


def basic(username: str, password: str) -> tuple[str, bytes]:
    """Return the Authorization header of a name and a password."""
    return "Authorization", b"Basic " + base64.b64encode(f"{username}:{password}".encode())


def session_key(port: int, username: str, password: str) -> str:
    """Sign in on the login page as a browser does, and return the session's key."""
    login = send(port, encode("GET", "/sign-in"))
    csrf = SimpleCookie(login.header("Set-Cookie"))["skyauth-csrf"].value
    field = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', login.body)
    assert field is not None
    form = urlencode({"username": username, "password": password, "csrfmiddlewaretoken": field[1].decode(), "next": "/admin/"})
    headers = [("Cookie", f"skyauth-csrf={csrf}"), ("Content-Type", "application/x-www-form-urlencoded")]
    answer = send(port, encode("POST", "/sign-in", headers, form.encode()), method="POST")
    assert answer.status == 302, answer
    cookies = SimpleCookie()
    for line in answer.all("Set-Cookie"):
        cookies.load(line)
    return cookies["skyauth"].value


# What a proxy says in each question, and that it keeps its connection.
TARGET = (("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", HOST), ("X-Forwarded-Uri", "/"))
OPEN = ("Connection", "keep-alive")


def question(*headers: tuple[str, str | bytes], method: str = "GET", target: str = "/authz/verify", body: bytes = b"") -> bytes:
    """Return the bytes of a question on a connection that stays open."""
    return encode(method, target, [*TARGET, OPEN, *headers], body)


def answers(connection: socket.socket, methods: Iterable[str]) -> list[Reply]:
    """Return as many answers as there are methods, read one after another from one connection; each must name its length."""
    replies = []
    with connection.makefile("rb") as stream:
        for method in methods:
            version, status, _ = stream.readline().split(b" ", 2)
            assert version == b"HTTP/1.1"
            lines = [line.decode("latin-1").partition(":") for line in iter(stream.readline, b"\r\n")]
            headers = tuple((name, value.strip()) for name, _, value in lines)
            length = next(int(value) for name, value in headers if name.lower() == "content-length")
            replies.append(Reply(int(status), headers, b"" if method == "HEAD" else stream.read(length)))
    return replies
