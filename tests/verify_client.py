"""What reaches the gateway, for tests: a proxy's word on the original request, and credentials as header lines."""

import base64
import json
from types import MappingProxyType

from django.test import override_settings

from accounts.models import User
from authn.proxy_headers import ProxyInfo
from gateway import verify
from gateway.forwarded import AuthRequest
from gateway.headers import IDENTITY, Answer

PROXY = "10.0.0.1"
CLIENT = "192.0.2.7"
Lines = list[tuple[bytes, bytes]]


def proxied(
    method: str = "GET",
    path: str = "/things",
    *,
    host: str = "api.example.com",
    client: str = CLIENT,
    subject: str | None = None,
    groups: str | None = None,
) -> ProxyInfo:
    """Return what the gate finds when a trusted proxy asks about a request."""
    said = MappingProxyType({"method": method, "uri": path, "host": host, "proto": "https"})
    return ProxyInfo(trusted=True, peer=PROXY, client=client, subject=subject, groups=groups, forwarded=said)


def judge(lines: Lines, proxied: ProxyInfo) -> Answer:
    """Return the answer to a question with these header lines, found out from the database alone."""
    return verify.decide(AuthRequest(lines, proxied))


def denied(user: User, method: str = "GET", path: str = "/things") -> str:
    """Return the id of the decision when this user, whom the proxy names, asks for something and is denied."""
    with override_settings(AUTH_USER_HEADER_FORMAT="plaintext"):
        answer = judge([], proxied(method, path, subject=user.username))
    assert answer.status == 403
    return str(json.loads(answer.body)["decision"])


def bearer(token: str) -> Lines:
    """Return the header line of a token."""
    return [(b"authorization", b"Bearer " + token.encode("utf-8"))]


def basic(username: str, password: str) -> Lines:
    """Return the header line of a name and a password."""
    return [(b"authorization", b"Basic " + base64.b64encode(f"{username}:{password}".encode()))]


def cookie(session_key: str) -> Lines:
    """Return the header line of a session."""
    return [(b"cookie", f"skyauth={session_key}".encode())]


def identity(answer: Answer) -> dict[str, str]:
    """Return the identity headers of an answer, by the last word of their name. Fails unless each is there exactly once."""
    names = [name for name, _ in answer.headers]
    for header in IDENTITY:
        assert names.count(header.lower().encode()) == 1, f"{header} must be written exactly once"
    said = {name.decode(): value.decode("ascii") for name, value in answer.headers}
    return {header.rsplit("-", 1)[1].lower(): said[header.lower()] for header in IDENTITY}
