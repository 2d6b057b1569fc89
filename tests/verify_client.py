"""Requests to the gateway, for tests: the forwarded original request, and credentials as header lines."""

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

# Values of Authorization that are for the application behind SkyAuth.
FOREIGN = [
    b"Bearer eyJhbGciOi.x.y",
    b"Bearer ghp_abc",
    b"Bearer",
    b"Bearer ",
    b"BearerX sky_a",
    b"Token 0123456789abcdef",
    b"Token sky_abc",
    b"AWS4-HMAC-SHA256 Credential=AKIA/20261124/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=fe5f",
    b'Digest username="bob", realm="r", nonce="n", uri="/", response="x"',
    b"Negotiate YII=",
    b"Negotiate",
    b"ApiKey VnVhQ2ZHY0JDZGJrU",
    b"sky_abc",
    b"",
    b" ",
    b"\xff\xfe",
]


def proxied(
    method: str = "GET",
    path: str = "/things",
    *,
    host: str = "api.example.com",
    client: str = CLIENT,
    subject: str | None = None,
    groups: str | None = None,
) -> ProxyInfo:
    """Return what the header filter finds in a request of a trusted proxy."""
    forwarded = MappingProxyType({"method": method, "uri": path, "host": host, "proto": "https"})
    return ProxyInfo(trusted=True, peer=PROXY, client=client, subject=subject, groups=groups, forwarded=forwarded)


def judge(lines: Lines, proxied: ProxyInfo) -> Answer:
    """Return the answer to a request with these header lines, from the database and without a cache."""
    return verify.decide(AuthRequest(lines, proxied))


def denied(user: User, method: str = "GET", path: str = "/things") -> str:
    """Return the decision id of a denied request of this user, whom the proxy names."""
    with override_settings(AUTH_USER_HEADER_FORMAT="plaintext"):
        answer = judge([], proxied(method, path, subject=user.username))
    assert answer.status == 403
    return str(json.loads(answer.body)["decision"])


def bearer(token: str) -> Lines:
    """Return the header line with a token."""
    return [(b"authorization", b"Bearer " + token.encode("utf-8"))]


def basic(username: str, password: str) -> Lines:
    """Return the header line with a user name and password."""
    return [(b"authorization", b"Basic " + base64.b64encode(f"{username}:{password}".encode()))]


def cookie(session_key: str) -> Lines:
    """Return the header line with a session cookie."""
    return [(b"cookie", f"skyauth={session_key}".encode())]


def identity(answer: Answer) -> dict[str, str]:
    """Return the identity headers of an answer, by the last word of their name. Fails unless each is present exactly once."""
    names = [name for name, _ in answer.headers]
    for header in IDENTITY:
        assert names.count(header.lower().encode()) == 1, f"{header} must be written exactly once"
    values = {name.decode(): value.decode("ascii") for name, value in answer.headers}
    return {header.rsplit("-", 1)[1].lower(): values[header.lower()] for header in IDENTITY}
