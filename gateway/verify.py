"""The straight line: headers to credential to principal, target to permission, both to a decision, decision to answer."""

import logging
from collections.abc import Sequence

from django.conf import settings

from accounts import authn, credentials
from accounts.credentials import InvalidCredential
from accounts.trust import Proxied
from audit.events import Event
from audit.record import record_refusal
from gateway import forwarded, headers
from gateway.headers import Answer
from rbac import policy, services

logger = logging.getLogger("skyauth.gateway")


def judge(raw_headers: Sequence[tuple[bytes, bytes]], proxied: Proxied, *, oversized: bool = False) -> Answer:
    """Return the answer to a proxy that asks about a request. Never raises: whatever goes wrong with us is 503."""
    try:
        return _judge(raw_headers, proxied, oversized=oversized)
    except Exception as error:
        # The type alone: an exception's text may quote what was sent.
        logger.error("A request could not be judged: %s", type(error).__name__, exc_info=settings.DEBUG)
        return headers.unavailable()


def _judge(raw_headers: Sequence[tuple[bytes, bytes]], proxied: Proxied, *, oversized: bool) -> Answer:
    if oversized:
        return headers.refused("headers-too-large", "The header section is too large to be looked at.")
    try:
        principal = authn.identify(_read(raw_headers, proxied), client=proxied.client)
    except InvalidCredential:
        return headers.unauthenticated(basic=settings.AUTH_BASIC)
    try:
        target = forwarded.read(proxied)
    except forwarded.Unreadable as error:
        decision, asked = policy.unreadable(str(error)), "unreadable request"
    else:
        decision, asked = policy.decide_request(principal.permissions, target, services.rules()), str(target)
    if decision:
        return headers.allowed(principal)
    reason = f"{decision.reason}: {decision.message}"
    # Of a stranger one entry a minute tells enough, whatever paths they try.
    key = () if principal.is_authenticated else ("anonymous", principal.peer)
    record_refusal(Event.REQUEST_DENIED, actor=principal, target=asked, reason=reason, key=key)
    return headers.denied(principal, decision, basic=settings.AUTH_BASIC)


def _read(raw_headers: Sequence[tuple[bytes, bytes]], proxied: Proxied) -> credentials.Credential | None:
    """Return the credential among raw headers. Raises InvalidCredential, after recording the refusal."""
    try:
        return credentials.read(
            authorization=[value for name, value in raw_headers if name == b"authorization"],
            auth_mode=[value for name, value in raw_headers if name == b"x-skypilot-auth-mode"],
            proxied=proxied,
            session_key=_cookie(raw_headers, settings.SESSION_COOKIE_NAME.encode("ascii")),
        )
    except InvalidCredential as refusal:
        authn.refused(refusal, client=proxied.client)
        raise


def _cookie(raw_headers: Sequence[tuple[bytes, bytes]], name: bytes) -> str | None:
    """Return the value of a cookie (RFC 6265 section 5.4). One that came twice with two values is none."""
    found = {
        value.strip()
        for header, line in raw_headers
        if header == b"cookie"
        for key, equals, value in (pair.partition(b"=") for pair in line.split(b";"))
        if equals and key.strip() == name
    }
    value = found.pop() if len(found) == 1 else b""
    return value.decode("ascii") if value.isalnum() else None
