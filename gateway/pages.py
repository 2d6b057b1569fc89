"""Refusals as HTML pages, for browsers. They are rendered in a thread, and only after a request was refused."""

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from django.conf import settings
from django.contrib.staticfiles.finders import find
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import mark_safe

from core.redirects import nearest_safe_path
from gateway import headers
from gateway.cross_origin import public_origin
from gateway.forwarded import OriginalRequest, origin
from gateway.headers import Answer
from rbac import policy, services
from rbac.denials import Denial
from rbac.principals import Kind, Method, Principal

_AUTHENTICATED_BY: Final = {
    Method.BEARER: "a service account's token",
    Method.BASIC: "the user name and password that your browser sent",
    Method.PROXY: "the single sign-on in front of this address",
    Method.SESSION: "your session on SkyAuth",
    Method.SHARED: "a shared password",
}
_OTHER_USER: Final = {  # how to sign in as another user; the sign-in page signs out a session itself
    Method.BASIC: "close your browser, which then asks for a user name and password again",
    Method.PROXY: "sign out at the single sign-on",
    Method.SHARED: "close your browser, which then asks for a user name and password again",
}


def denied(refusal: Answer, original: OriginalRequest, denial: Denial, reference: str) -> Answer:
    """Return a 403 as a page: the request, the caller, the required permission, the decision ID, and what to do next."""
    return _page(
        refusal,
        "gateway/denied.html",
        original,
        denial=denial,
        caller=_caller(denial.principal),
        authenticated_by=_AUTHENTICATED_BY.get(denial.principal.method, ""),
        other_user=_OTHER_USER.get(denial.principal.method, ""),
        roles=policy.holders(denial.decision.needed, services.role_table()) if denial.decision.needed else (),
        reference=reference,
        sign_in=_sign_in() if denial.principal.method is Method.SESSION and _is_own_origin(original) else "",
    )


def unauthenticated(refusal: Answer, original: OriginalRequest, message: str = "") -> Answer:
    """Return a 401 as a page: why a genuine credential is refused (`message`), or how to sign in. The 401 reveals as much."""
    sign_in = _sign_in(_next_path(original)) if _is_own_origin(original) else ""
    return _page(refusal, "gateway/unauthenticated.html", original, sign_in=sign_in, message=message)


def sign_in_redirect(original: OriginalRequest) -> Answer | None:
    """Return the 302 to the sign-in page, or None.

    It needs redirect mode; SkyAuth's own origin, where a session authenticates; GET, which can be repeated; and another page than
    the sign-in page itself, which would redirect to itself for ever.
    """
    if not settings.AUTH_REDIRECT or original.method != "GET" or _is_sign_in(original) or not _is_own_origin(original):
        return None
    return headers.redirect(f"{settings.PUBLIC_URL}{_sign_in(_next_path(original))}")


def _is_sign_in(original: OriginalRequest) -> bool:
    return original.uri.partition("?")[0] == _sign_in()


def _next_path(original: OriginalRequest) -> str:
    """Return the return URL, or ""."""
    return "" if _is_sign_in(original) else nearest_safe_path(original.uri)


def _sign_in(next_path: str = "") -> str:
    """Return the path of the sign-in page, with the return URL."""
    path = reverse("dashboard:sign-in")
    return f"{path}?next={quote(next_path, safe='')}" if next_path else path


def _is_own_origin(original: OriginalRequest) -> bool:
    """Return whether the request was sent to the origin of SkyAuth's own pages."""
    return origin(original.proto, original.host) == public_origin()


def _caller(principal: Principal) -> str:
    match principal.kind:
        case Kind.USER:
            return principal.name
        case Kind.SERVICE_ACCOUNT:
            return f"the service account {principal.name}"
        case Kind.SHARED:
            return f"a user of the shared password of {principal.name}"
        case _:
            return ""


def _page(refusal: Answer, template: str, original: OriginalRequest, **context: Any) -> Answer:
    style, content_policy = _style()
    content = render_to_string(template, {"original": original, "style": style, **context})
    return headers.page(refusal, content.encode("utf-8"), content_policy)


@lru_cache(1)
def _style() -> tuple[str, str]:
    """Return the style sheet of SkyAuth's own pages, and a Content-Security-Policy that allows this style sheet alone."""
    text = Path(str(find("skyauth/page.css"))).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    directives = (
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    )
    return mark_safe(text), "; ".join(directives)  # noqa: S308 # nosec - a file of SkyAuth
