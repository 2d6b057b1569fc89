"""Puts request id and principal on the requests that Django serves, and closes interfaces to sign-in methods."""

from collections.abc import Callable
from typing import Any, cast

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import Resolver404, resolve
from django.utils.deprecation import MiddlewareMixin
from django.utils.functional import SimpleLazyObject

from accounts.models import User
from authn import credentials, identify, view_access
from authn.credentials import InvalidCredential
from authn.proxy_headers import ProxyInfo
from authn.requests import AuthenticatedRequest, principal_of, proxied_of, raw_values
from authn.session_cookie import session_key
from core import request_id
from core.problems import NOT_SIGNED_IN
from core.responses import unauthenticated
from rbac import auth_methods, principals
from rbac.auth_methods import Interface
from rbac.principals import Kind, Principal


class RequestIdMiddleware(MiddlewareMixin):
    """Gives each request an id, and each response the same."""

    def process_request(self, request: HttpRequest) -> None:
        values = raw_values(request, request_id.HEADER)
        cast(AuthenticatedRequest, request).id = request_id.begin(values, trusted=proxied_of(request).trusted)

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response[request_id.HEADER] = cast(AuthenticatedRequest, request).id
        return response


class SessionCookieMiddleware(SessionMiddleware):
    """Django's session middleware for the session key that `authn.session_cookie` reads, and for no other."""

    def process_request(self, request: HttpRequest) -> None:
        key = session_key(raw_values(request, "Cookie"))
        if key is not None:
            request.COOKIES[settings.SESSION_COOKIE_NAME] = key
        else:
            request.COOKIES.pop(settings.SESSION_COOKIE_NAME, None)
        super().process_request(request)


class PrincipalMiddleware(AuthenticationMiddleware):
    """Sets `request.principal`, and `request.user` to its User or to Django's AnonymousUser.

    A bad credential is answered with 401, whatever the path, unless the view `answers_refusals`: then the principal is anonymous
    and `request.refusal` says what is wrong. For a view that `ignores_credentials` the principal is always anonymous.

    `rbac.auth_methods` decides whether the principal's sign-in method opens the view's interface. A view that belongs to no
    interface is open to nobody.
    """

    def process_request(self, request: HttpRequest) -> HttpResponse | None:  # type: ignore[override]
        proxied = proxied_of(request)
        view = _view(request)
        authenticated = cast(AuthenticatedRequest, request)
        try:
            credential = None if getattr(view, "ignores_credentials", False) else self._read(request, proxied)
            principal = identify.identify(credential, client=proxied.client)
        except InvalidCredential as refusal:
            authenticated.refusal = refusal
            if not getattr(view, "answers_refusals", False):
                return unauthenticated(basic=settings.AUTH_BASIC, detail=refusal.message or NOT_SIGNED_IN)
            principal = principals.anonymous(proxied.client)
        authenticated.principal = principal
        request.user = SimpleLazyObject(lambda: _user(principal))  # type: ignore[assignment]
        return None

    def process_view(self, request: HttpRequest, view: Callable[..., Any], *_: Any) -> HttpResponseBase | None:
        """Return the interface's refusal where the principal's sign-in method does not open it."""
        if auth_methods.opens(principal_of(request).method, view_access.interface_of(view)):
            return None
        return view_access.refusal_by(view)(request)

    def _read(self, request: HttpRequest, proxied: ProxyInfo) -> credentials.Credential | None:
        try:
            return credentials.read(
                authorization=raw_values(request, "Authorization"),
                auth_mode=raw_values(request, "X-Skypilot-Auth-Mode"),
                proxied=proxied,
                session_key=session_key(raw_values(request, "Cookie")),
                basic=settings.AUTH_BASIC,
            )
        except InvalidCredential as refusal:
            identify.record_bad_credential(refusal, client=proxied.client)
            raise


def _view(request: HttpRequest) -> Callable[..., Any] | None:
    try:
        return resolve(request.path_info).func
    except Resolver404:
        return None


def _user(principal: Principal) -> Any:
    """Return the User row of a principal whose sign-in method opens Django's own pages, or else AnonymousUser."""
    row = None
    if principal.kind is Kind.USER and auth_methods.opens(principal.method, Interface.DJANGO_ADMIN):
        row = User.objects.select_related("role").filter(pk=principal.pk or 0).first()
    return row or AnonymousUser()
