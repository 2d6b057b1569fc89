"""Puts the principal on Django's requests, for the doors that Django's handler serves."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
from django.utils.deprecation import MiddlewareMixin
from django.utils.functional import SimpleLazyObject

from accounts.models import User
from authn import credentials, identify
from authn.credentials import Basic, InvalidCredential
from authn.proxy_header_middleware import SCOPE_KEY
from authn.proxy_headers import NO_PROXY_INFO, ProxyInfo
from authn.session_store import SessionStore
from core import request_id
from core.responses import unauthenticated
from rbac import principals
from rbac.principals import ANONYMOUS, Kind, Method, Principal

View = TypeVar("View", bound=Callable[..., HttpResponse])


def proxied_of(request: HttpRequest | None) -> ProxyInfo:
    """Return what the gate found. Where there was no gate (a WSGI runner, the test client) nobody is trusted."""
    found = getattr(request, "scope", {}).get(SCOPE_KEY, NO_PROXY_INFO)
    if not isinstance(found, ProxyInfo):
        return NO_PROXY_INFO
    if found is NO_PROXY_INFO and request is not None:
        return ProxyInfo(peer=(address := str(request.META.get("REMOTE_ADDR", ""))), client=address)
    return found


def _raw(request: HttpRequest, name: str) -> list[bytes]:
    """Return every value of a header as it came; one that a server without raw headers joined is still one."""
    scope = getattr(request, "scope", None)
    if scope is not None:
        wanted = name.lower().encode("ascii")
        return [value for key, value in scope["headers"] if key.lower() == wanted]
    value = request.headers.get(name)
    return [] if value is None else [value.encode("latin-1", "replace")]


class RequestIdMiddleware(MiddlewareMixin):
    """Gives each request its id, and tells it in the answer."""

    def process_request(self, request: HttpRequest) -> None:
        """Begin to work on the request."""
        request.id = request_id.begin(  # type: ignore[attr-defined]
            _raw(request, request_id.HEADER), trusted=proxied_of(request).trusted
        )

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Return the response with the id."""
        response[request_id.HEADER] = request.id  # type: ignore[attr-defined]
        return response


class PrincipalMiddleware(AuthenticationMiddleware):
    """Sets `request.principal`, and `request.user` to the User behind it, or Django's AnonymousUser.

    A bad credential ends the request with 401, whatever page was asked for, unless the view is one that `answers_refusals`:
    it gets `request.refusal`, and nobody as the principal. One that `ignores_credentials` gets nobody, whatever was shown.
    """

    def process_request(self, request: HttpRequest) -> HttpResponse | None:  # type: ignore[override]
        """Identify the caller."""
        proxied = proxied_of(request)
        _drop_impossible_session(request)
        view = _view(request)
        try:
            credential = None if getattr(view, "ignores_credentials", False) else self._read(request, proxied)
            principal = identify.identify(credential, client=proxied.client)
        except InvalidCredential as refusal:
            if not getattr(view, "answers_refusals", False):
                return unauthenticated(basic=settings.AUTH_BASIC)
            request.refusal = refusal  # type: ignore[attr-defined]
            principal = principals.anonymous(proxied.client)
        request.principal = principal  # type: ignore[attr-defined]
        request.user = SimpleLazyObject(lambda: _user(principal))  # type: ignore[assignment]
        return None

    def _read(self, request: HttpRequest, proxied: ProxyInfo) -> credentials.Credential | None:
        try:
            return credentials.read(
                authorization=_raw(request, "Authorization"),
                auth_mode=_raw(request, "X-Skypilot-Auth-Mode"),
                proxied=proxied,
                session_key=request.COOKIES.get(settings.SESSION_COOKIE_NAME),
            )
        except InvalidCredential as refusal:
            identify.refused(refusal, client=proxied.client)
            raise


def principal_of(request: HttpRequest) -> Principal:
    """Return the principal of a request; anonymous where the middleware has not run."""
    found = getattr(request, "principal", ANONYMOUS)
    return found if isinstance(found, Principal) else ANONYMOUS


def answers_refusals(view: View) -> View:
    """Mark a view that finds the words for a bad credential itself, because its callers understand no others; return it."""
    view.answers_refusals = True  # type: ignore[attr-defined]
    return view


def ignores_credentials(view: View) -> View:
    """Mark a view that is nobody's in particular, so that no credential is looked at, let alone counted as wrong; return it."""
    view.ignores_credentials = True  # type: ignore[attr-defined]
    return view


def refusal_of(request: HttpRequest) -> InvalidCredential | None:
    """Return what was wrong with the credential of a request that came to such a view, or None."""
    found = getattr(request, "refusal", None)
    return found if isinstance(found, InvalidCredential) else None


def basic_of(request: HttpRequest) -> Basic | None:
    """Return the name and password by which the request's caller was recognised, or None when it was not by these."""
    if principal_of(request).method is not Method.BASIC:
        return None
    shown = credentials.read(
        authorization=_raw(request, "Authorization"), auth_mode=(), proxied=proxied_of(request), session_key=None
    )
    return shown if isinstance(shown, Basic) else None


def _view(request: HttpRequest) -> Callable[..., Any] | None:
    try:
        return resolve(request.path_info).func
    except Resolver404:
        return None


def _drop_impossible_session(request: HttpRequest) -> None:
    """Take a session cookie off the request that no key of ours can be; PostgreSQL raises for a NUL in one."""
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if key is not None and not (key.isascii() and key.isalnum()):
        del request.COOKIES[settings.SESSION_COOKIE_NAME]
        request.session = SessionStore()


def _user(principal: Principal) -> Any:
    """Return the User row behind a principal, or Django's AnonymousUser for everybody else.

    So is a command line that a person signed in: it was given the protected API, and no page of ours (promise 37).
    """
    if principal.kind is not Kind.USER or principal.pk is None or principal.method is Method.CLI:
        return AnonymousUser()
    return User.objects.select_related("role").filter(pk=principal.pk).first() or AnonymousUser()
