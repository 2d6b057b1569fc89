"""What a view declares to PrincipalMiddleware: the interface that it belongs to, and what it does about credentials itself."""

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import URLPattern, URLResolver

from authn.requests import principal_of
from core.problems import problem
from core.responses import respond, unauthenticated
from rbac.auth_methods import Interface
from rbac.denials import record_denial

View = TypeVar("View", bound=Callable[..., HttpResponseBase])
Refuse = Callable[[HttpRequest], HttpResponseBase]
UrlPatterns = list[URLPattern | URLResolver]

_CLOSED: Final = "Your sign-in method does not give access to this address."


def refuse(request: HttpRequest) -> HttpResponse:
    """Return 401 to an anonymous caller and else 403, which is recorded, as problems (RFC 9457)."""
    principal = principal_of(request)
    if not principal.is_authenticated:
        return unauthenticated(basic=settings.AUTH_BASIC)
    record_denial(principal, f"{request.method} {request.path}", _CLOSED)
    return respond(problem(403, "not-permitted", _CLOSED))


def belongs_to(interface: Interface, refuse: Refuse = refuse) -> Callable[[View], View]:
    """Return a decorator that makes a view part of the interface; `refuse` answers sign-in methods that do not open it."""

    def mark(view: View) -> View:
        view.interface, view.refuse = interface, refuse  # type: ignore[attr-defined]
        return view

    return mark


def all_belong_to(interface: Interface, patterns: Iterable[URLPattern | URLResolver], refuse: Refuse = refuse) -> UrlPatterns:
    """Return the URL patterns; each of their views that declares no interface itself is part of this one."""
    marked = list(patterns)
    for pattern in marked:
        if isinstance(pattern, URLResolver):
            all_belong_to(interface, pattern.url_patterns, refuse)
        elif interface_of(pattern.callback) is None:
            belongs_to(interface, refuse)(pattern.callback)
    return marked


def interface_of(view: Any) -> Interface | None:
    """Return the interface that a view declares, or None."""
    return getattr(view, "interface", None)


def refusal_by(view: Any) -> Refuse:
    """Return what answers a caller whose sign-in method does not open the view."""
    return getattr(view, "refuse", refuse)


def answers_refusals(view: View) -> View:
    """Mark a view that answers requests with a bad credential itself, in the form that its clients understand; return it."""
    view.answers_refusals = True  # type: ignore[attr-defined]
    return view


def ignores_credentials(view: View) -> View:
    """Mark a view for anonymous callers only: no credential is read, and none counts as wrong; return it."""
    view.ignores_credentials = True  # type: ignore[attr-defined]
    return view
