"""Makes the answer to a decision: status, headers and body. The only module that writes the identity headers."""

import json
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from core.asgi import HeaderLine
from core.problems import CONTENT_TYPE, NOT_SIGNED_IN, RETRY_AFTER_SECONDS, challenges, problem
from rbac.policy import Decision, Reason, refusal_status
from rbac.principals import Kind, Principal

IDENTITY: Final = (
    "X-Auth-Request-Email",
    "X-Auth-Request-User",
    "X-Auth-Request-Groups",
    "X-Auth-Request-Role",
    "X-Auth-Request-Method",
)
ASSERTION: Final = "X-Auth-Request-Jwt"
# An upstream that fails open, as SkyPilot's does, takes an empty identity for an administrator. The gateway of such an upstream
# lets one through only where this header is "true": a request with the shared password, if SKYPILOT_SHARED_BASIC is on.
SHARED: Final = "X-Auth-Request-Shared"

DECISION: Final = "X-Skyauth-Decision"

_IDENTITY: Final = tuple(name.lower().encode() for name in IDENTITY)
_ASSERTION: Final = ASSERTION.lower().encode()
_SHARED: Final = SHARED.lower().encode()
_STATUS_LINES: Final = {
    status: b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode()) for status in (200, 302, 401, 403, 503)
}


class Cause(StrEnum):
    """The reason of an answer that has no decision. With `rbac.policy.Reason`, these are all reasons that metrics count."""

    BAD_CREDENTIAL = "bad-credential"
    NO_CREDENTIAL = "no-credential"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer. The status is 200, 401, 403 or 503, and nothing else (promise 29); 302 in redirect mode alone.

    `wire` is the HTTP/1.1 message (RFC 9112 section 2.1): the status line, and everything after it.
    """

    status: int
    reason: Reason | Cause = field(compare=False)  # for metrics; not part of the response
    headers: tuple[HeaderLine, ...]
    body: bytes = b""
    wire: tuple[bytes, bytes] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        lines = b"".join([b"%s: %s\r\n" % line for line in self.headers])
        object.__setattr__(self, "wire", (_STATUS_LINES[self.status], b"%s\r\n%s" % (lines, self.body)))


def allowed(principal: Principal, assertion: str = "", *, shared: bool = False) -> Answer:
    """Return the 200 with the identity headers and, if there is one, the signed assertion.

    `shared` lets requests with the shared password reach an upstream like SkyPilot's without an identity.
    """
    without_identity = "true" if shared and principal.kind is Kind.SHARED else ""
    return _answer(200, Reason.GRANTED, principal, assertion=assertion, shared=without_identity)


def denied(principal: Principal, decision: Decision, reference: str, *, basic: bool) -> Answer:
    """Return 403 with the reason and the decision id, or for an anonymous caller 401, which reveals nothing about the routes."""
    if refusal_status(decision, authenticated=principal.is_authenticated) == 401:
        return unauthenticated(basic=basic, cause=Cause.NO_CREDENTIAL)
    body = problem(
        403,
        decision.reason,
        decision.message,
        needed=decision.needed,
        role=principal.role or None,
        rule=decision.rule or None,
        decision=reference,
    )
    fields = {key: value for key, value in body.items() if value is not None}
    return _answer(403, decision.reason, principal, body=fields, extra=((DECISION.lower().encode(), reference.encode("ascii")),))


@lru_cache(8)
def unauthenticated(*, basic: bool, cause: Cause = Cause.BAD_CREDENTIAL, detail: str = NOT_SIGNED_IN) -> Answer:
    """Return the 401 for a bad or missing credential; `detail` is the same for every fault that a stranger can cause."""
    lines = tuple((b"www-authenticate", challenge.encode("ascii")) for challenge in challenges(basic=basic))
    return _answer(401, cause, None, body=problem(401, "unauthenticated", detail), extra=lines)


def unavailable() -> Answer:
    """Return the 503 for an error of SkyAuth's own."""
    body = problem(503, "unavailable", "SkyAuth cannot answer right now. Try again shortly.")
    return _answer(503, Cause.UNAVAILABLE, None, body=body, extra=((b"retry-after", str(RETRY_AFTER_SECONDS).encode()),))


def page(refusal: Answer, content: bytes, policy: str) -> Answer:
    """Return a refusal with an HTML page as its body; `policy` is the page's Content-Security-Policy."""
    replaced = (b"content-type", b"content-length")
    lines = (
        *(line for line in refusal.headers if line[0] not in replaced),
        (b"content-length", str(len(content)).encode()),
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", policy.encode("ascii")),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    )
    return Answer(refusal.status, refusal.reason, lines, content)


def redirect(location: str) -> Answer:
    """Return the 302 to a page of SkyAuth, which only redirect mode uses."""
    return _answer(302, Cause.NO_CREDENTIAL, None, extra=((b"location", location.encode("ascii")),))


def _answer(
    status: int,
    reason: Reason | Cause,
    principal: Principal | None,
    *,
    body: dict[str, object] | None = None,
    extra: tuple[HeaderLine, ...] = (),
    assertion: str = "",
    shared: str = "",
) -> Answer:
    content = json.dumps(body).encode() if body is not None else b""
    lines = [
        *_identity(principal if status == 200 else None),
        (_ASSERTION, assertion.encode("ascii")),
        (_SHARED, shared.encode("ascii")),
        *extra,
        (b"cache-control", b"no-store"),
        (b"content-length", str(len(content)).encode()),
    ]
    if content:
        lines.append((b"content-type", CONTENT_TYPE.encode()))
    return Answer(status, reason, tuple(lines), content)


def _identity(principal: Principal | None) -> list[HeaderLine]:
    """Return every identity header, empty without a value, so that the proxy replaces any that a client sent (promise 28)."""
    values = ("",) * len(IDENTITY)
    if principal is not None and principal.is_authenticated:
        # A caller without an identity has no uid either. A comma in a group name must not make it two groups.
        uid = principal.uid if principal.identity else ""
        groups = ",".join(group.replace(",", "?") for group in principal.groups)
        values = (principal.identity, uid, groups, principal.role, principal.method)
    return [(name, _value(value)) for name, value in zip(_IDENTITY, values, strict=True)]


def _value(text: str) -> bytes:
    """Return a header value. Characters that are not printable ASCII, which group names can contain, become question marks."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
    return text.encode("ascii")
