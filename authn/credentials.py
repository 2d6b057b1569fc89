"""Reads the credential of a request: at most one, in the order `Authorization`, trusted proxy's header, session.

A credential that is present but bad is an error. No weaker one is used in its place (security promise 8). An `Authorization` that
is none of SkyAuth's kinds is for the application behind it: it does not matter where a proxy or a session names the user.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from authn.proxy_headers import ProxyInfo
from core.text import clean

_TOKEN_PREFIX: Final = b"sky_"
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9\-._~+/]+=*) *\Z")  # RFC 6750 section 2.1, RFC 7235 scheme
_BASIC = re.compile(rb"[Bb][Aa][Ss][Ii][Cc] +([A-Za-z0-9+/]+={0,2}) *\Z")  # RFC 7617 section 2
_BEARER_LIKE = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr](?:[ \t]|\Z)")
_BASIC_LIKE = re.compile(rb"[Bb][Aa][Ss][Ii][Cc](?:[ \t]|\Z)")
MAX_BASIC: Final = 2_048
MAX_SHOWN: Final = 100
_SHOWN_START: Final = 12


class InvalidCredential(Exception):
    """The credential is bad. `reason` and `claimed`, the name that it claims, are for the audit log and not for the client.

    `message` is a sentence for the client, where the credential is genuine and the user can do something about it; else "".
    """

    def __init__(self, reason: str, *, method: str = "", claimed: str = "", message: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.method = method
        self.claimed = claimed
        self.message = message


@dataclass(frozen=True, slots=True)
class Bearer:
    """A service-account token (RFC 6750), not yet parsed."""

    token: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Basic:
    """A name and a password (RFC 7617), decoded."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """The identity headers of a trusted proxy: `subject` is a name or a JWT, as configured; `groups` is the header's text.

    `groups_fault` is why the groups header could not be read, or "".
    """

    subject: str = field(repr=False)
    groups: str | None = None
    groups_fault: str = ""


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """The key of a browser session or a CLI session.

    `beside_foreign` means that the request has an Authorization header of another service, which only a live session excuses.
    """

    session_key: str = field(repr=False)
    beside_foreign: bool = False


Credential = Bearer | Basic | ProxyHeader | SessionCookie


def foreign() -> InvalidCredential:
    """Return the error for an Authorization header of another service where nothing else names the user."""
    return InvalidCredential("an Authorization header that is not of this service")


def read(
    *, authorization: Sequence[bytes], auth_mode: Sequence[bytes], proxied: ProxyInfo, session_key: str | None, basic: bool
) -> Credential | None:
    """Return the credential of a request, or None. Raises InvalidCredential.

    `authorization` and `auth_mode` are all values of the headers Authorization and X-Skypilot-Auth-Mode, as received. `basic` is
    whether HTTP Basic is on; otherwise it is a credential for another service.
    """
    if proxied.fault:
        raise InvalidCredential(proxied.fault, method="proxy", claimed=shown(proxied.claimed))
    if len(authorization) > 1:
        raise InvalidCredential("more than one Authorization header")
    credential = _authorization(authorization[0], basic=basic) if authorization else None
    if auth_mode and any(value.strip().lower() == b"token" for value in auth_mode) and not isinstance(credential, Bearer):
        raise InvalidCredential("the auth mode asks for a service-account token, and there is none", method="bearer")
    if credential is not None:
        return credential
    if proxied.subject is not None:
        return ProxyHeader(proxied.subject, proxied.groups, proxied.groups_fault)
    if session_key:
        return SessionCookie(session_key, beside_foreign=bool(authorization))
    if authorization:
        raise foreign()
    return None


def shown(identity: str) -> str:
    """Return a refused identity for the audit log: an address, and of other values the beginning only.

    A value without `@` can be a secret that a proxy sends in the wrong header.
    """
    if "@" in identity:
        return clean(identity, MAX_SHOWN)
    return identity if len(identity) <= _SHOWN_START else f"{clean(identity, _SHOWN_START)}... ({len(identity)} characters)"


def _authorization(value: bytes, *, basic: bool) -> Bearer | Basic | None:
    """Return the credential of the header, or None when it is for another service."""
    match = _BEARER.match(value)
    if match is not None and (token := match[1]).startswith(_TOKEN_PREFIX):
        return Bearer(token)
    if basic and _BASIC_LIKE.match(value):
        return _basic(value)
    if _BEARER_LIKE.match(value) and value[6:].lstrip(b" \t").startswith(_TOKEN_PREFIX):
        raise InvalidCredential("malformed bearer token", method="bearer")
    return None


def _basic(value: bytes) -> Basic:
    """Return the name and the password, separated by the first colon. Control characters are refused (RFC 7617 section 2)."""
    match = _BASIC.match(value) if len(value) <= MAX_BASIC else None
    if match is None:
        raise InvalidCredential("malformed Basic credential", method="basic")
    try:
        text = base64.b64decode(match[1], validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidCredential("malformed Basic credential", method="basic") from None
    username, colon, password = text.partition(":")
    if not colon or not username or any(ord(c) < 0x20 or ord(c) == 0x7F for c in text):
        raise InvalidCredential("malformed Basic credential", method="basic")
    return Basic(username, password)
