"""What a request shows for itself: at most one credential, and the first kind present decides.

Order: `Authorization` (bearer or Basic), then the trusted proxy's header, then the session. A present-but-bad one is an
error and never gives way to a weaker one (security promise 8).
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from authn.proxy_headers import ProxyInfo

_OURS: Final = b"sky_"
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9\-._~+/]+=*) *\Z")  # RFC 6750 section 2.1, RFC 7235 scheme
_BASIC = re.compile(rb"[Bb][Aa][Ss][Ii][Cc] +([A-Za-z0-9+/]+={0,2}) *\Z")  # RFC 7617 section 2
_BEARER_LIKE = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr](?:[ \t]|\Z)")
_BASIC_LIKE = re.compile(rb"[Bb][Aa][Ss][Ii][Cc](?:[ \t]|\Z)")
MAX_BASIC: Final = 2_048


class InvalidCredential(Exception):
    """The credential shown is bad. `reason` and `claimed` are for the audit log; the caller learns neither."""

    def __init__(self, reason: str, *, method: str = "", claimed: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.method = method
        self.claimed = claimed


@dataclass(frozen=True, slots=True)
class Bearer:
    """A service-account token (RFC 6750), not yet looked at."""

    token: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Basic:
    """A name and a password (RFC 7617), decoded."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a trusted proxy says of the user: a plain name or a signed assertion, as configured, and the groups header's text."""

    subject: str = field(repr=False)
    groups: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """The key of a browser session."""

    session_key: str = field(repr=False)


Credential = Bearer | Basic | ProxyHeader | Session


def read(
    *, authorization: Sequence[bytes], auth_mode: Sequence[bytes], proxied: ProxyInfo, session_key: str | None
) -> Credential | None:
    """Return the one credential that decides, or None when there is none. Raises InvalidCredential.

    `authorization` and `auth_mode` are all values of the headers Authorization and X-Skypilot-Auth-Mode, as they came.
    """
    if proxied.fault:
        raise InvalidCredential(proxied.fault, method="proxy")
    if len(authorization) > 1:
        raise InvalidCredential("more than one Authorization header")
    shown = _authorization(authorization[0], proxied) if authorization else None
    if auth_mode and any(value.strip().lower() == b"token" for value in auth_mode) and not isinstance(shown, Bearer):
        raise InvalidCredential("the auth mode asks for a service-account token, and there is none", method="bearer")
    if shown is not None:
        return shown
    if proxied.subject is not None:
        return ProxyHeader(proxied.subject, proxied.groups)
    return Session(session_key) if session_key else None


def _authorization(value: bytes, proxied: ProxyInfo) -> Bearer | Basic | None:
    """Return the credential of the header, or None when it is somebody else's and the proxy names the user."""
    found = _BEARER.match(value)
    if found is not None and (token := found[1]).startswith(_OURS):
        return Bearer(token)
    if _BASIC_LIKE.match(value):
        return _basic(value)
    if _BEARER_LIKE.match(value) and value[6:].lstrip(b" \t").startswith(_OURS):  # ours by its prefix, broken in its shape
        raise InvalidCredential("malformed bearer token", method="bearer")
    if proxied.subject is None:
        raise InvalidCredential("an Authorization header that is not of this service")
    return None


def _basic(value: bytes) -> Basic:
    """Return the decoded name and password. The first colon splits; control characters are refused (RFC 7617 section 2)."""
    found = _BASIC.match(value) if len(value) <= MAX_BASIC else None
    if found is None:
        raise InvalidCredential("malformed Basic credential", method="basic")
    try:
        text = base64.b64decode(found[1], validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidCredential("malformed Basic credential", method="basic") from None
    username, colon, password = text.partition(":")
    if not colon or not username or any(ord(c) < 0x20 or ord(c) == 0x7F for c in text):
        raise InvalidCredential("malformed Basic credential", method="basic")
    return Basic(username, password)
