"""Authenticates API requests by the principal that PrincipalMiddleware found, and checks where a browser's request comes from."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from rest_framework.authentication import BaseAuthentication, CSRFCheck
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request

from authn.requests import principal_of
from core.problems import challenges
from core.same_origin import require_same_origin
from rbac import auth_methods
from rbac.principals import Method, Principal


class PrincipalAuthentication(BaseAuthentication):
    """The principal of the request. `rbac.auth_methods` says which sign-in methods get this far."""

    def authenticate(self, request: Request) -> tuple[Principal, Method] | None:
        """Return the principal and its sign-in method, or None for an anonymous one. Raises PermissionDenied (promise 36)."""
        principal = principal_of(request._request)
        if not principal.is_authenticated:
            return None
        if auth_methods.is_sent_unasked(principal.method):
            require_same_origin(request._request)
        if principal.method is Method.SESSION:
            _require_csrf_token(request._request)
        return principal, principal.method

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - DRF's signature
        """Return the challenges of a 401."""
        return ", ".join(challenges(basic=settings.AUTH_BASIC))


def _require_csrf_token(request: HttpRequest) -> None:
    """Run Django's own check, which the view was exempt from until it was known that a session asks."""
    check = CSRFCheck(lambda _: HttpResponse())
    check.process_request(request)
    if reason := check.process_view(request, lambda _: HttpResponse(), (), {}):
        raise PermissionDenied(f"The CSRF check failed: {reason}")
