"""Refusals in words, for people in browsers. Made in a thread, and only once a request is refused."""

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from django.conf import settings
from django.contrib.staticfiles.finders import find
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import mark_safe

from core.redirects import safe_next_path
from gateway import headers
from gateway.forwarded import OriginalRequest, origin
from gateway.headers import Answer
from rbac import policy, services
from rbac.denials import Denial
from rbac.principals import Kind, Method, Principal

_RECOGNISED: Final = {
    Method.BEARER: "by a service account's token",
    Method.BASIC: "by the name and password that your browser sent",
    Method.PROXY: "by the single sign-on in front of this address",
    Method.SESSION: "by your signing in here",
    Method.SHARED: "by a password that several people share",
}
_INSTEAD: Final = {  # how to come as somebody else; a session is ended on the sign-in page
    Method.BASIC: "close your browser, which then asks for a name and a password again",
    Method.PROXY: "sign out at the single sign-on",
    Method.SHARED: "close your browser, which then asks for a name and a password again",
}


def denied(refusal: Answer, person: OriginalRequest, denial: Denial, reference: str) -> Answer:
    """Return a 403 as a page: what was refused and why, to whom, what it needs, and what can be done."""
    return _page(
        refusal,
        "gateway/denied.html",
        person,
        denial=denial,
        who=_who(denial.principal),
        recognised=_RECOGNISED.get(denial.principal.method, ""),
        instead=_INSTEAD.get(denial.principal.method, ""),
        roles=policy.holders(denial.decision.needed, services.role_table()) if denial.decision.needed else (),
        reference=reference,
        sign_in=_sign_in() if denial.principal.method is Method.SESSION and _is_ours(person) else "",
    )


def unauthenticated(refusal: Answer, person: OriginalRequest) -> Answer:
    """Return a 401 as a page: how to sign in. It tells no more than the 401 does."""
    return _page(refusal, "gateway/unauthenticated.html", person, sign_in=_sign_in(_back(person)) if _is_ours(person) else "")


def sign_in(person: OriginalRequest) -> Answer | None:
    """Return the 302 that sends somebody to sign in and then back, in redirect mode, or None where that cannot be.

    It can on SkyAuth's own origin alone, where a session is worth something; for GET, which can be repeated; and where the
    way back is clear.
    """
    back = _back(person)
    if not settings.AUTH_REDIRECT or person.method != "GET" or not back or not _is_ours(person):
        return None
    return headers.sent_to(f"{settings.PUBLIC_URL}{_sign_in(back)}")


def _back(person: OriginalRequest) -> str:
    """Return where they wanted to go, or "". The sign-in page itself is no such place: one could never get out of it."""
    back = safe_next_path(person.uri)
    return "" if back.partition("?")[0] == _sign_in() else back


def _sign_in(back: str = "") -> str:
    """Return the path of the sign-in page, and how to go on from there."""
    path = reverse("dashboard:sign-in")
    return f"{path}?next={quote(back, safe='')}" if back else path


def _is_ours(person: OriginalRequest) -> bool:
    """Return whether the request was made to the origin of SkyAuth's own pages."""
    own = urlsplit(settings.PUBLIC_URL)
    return origin(person.proto, person.host) == origin(own.scheme, own.netloc)


def _who(principal: Principal) -> str:
    match principal.kind:
        case Kind.USER:
            return principal.name
        case Kind.SERVICE_ACCOUNT:
            return f"the service account {principal.name}"
        case Kind.SHARED:
            return f"somebody who knows the password of {principal.name}"
        case _:
            return ""


def _page(refusal: Answer, template: str, person: OriginalRequest, **context: Any) -> Answer:
    style, policy_line = _style()
    content = render_to_string(template, {"told": person, "style": style, **context})
    return headers.page(refusal, content.encode("utf-8"), policy_line)


@lru_cache(1)
def _style() -> tuple[str, str]:
    """Return the text of the style sheet of SkyAuth's own pages, and the policy under which a page may hold just that."""
    text = Path(str(find("skyauth/page.css"))).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    directives = (
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    )
    return mark_safe(text), "; ".join(directives)  # noqa: S308 # nosec - a file of ours
