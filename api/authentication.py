"""Who calls the API: the principal that the middleware found, if it is somebody, and if the browser did not act on its own."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from rest_framework.authentication import BaseAuthentication, CSRFCheck
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request

from authn.middleware import principal_of
from core.problems import challenges
from core.same_origin import require_same_origin
from rbac.principals import Kind, Method, Principal


class PrincipalAuthentication(BaseAuthentication):
    """Lets in users and service accounts. The shared credential is nobody in particular, and opens nothing here.

    Neither does what a person gave to their command line: it is for the protected API, and could else prolong itself.
    """

    def authenticate(self, request: Request) -> tuple[Principal, Method] | None:
        """Return the principal and how it was recognised, or None. Raises PermissionDenied (promise 36)."""
        principal = principal_of(request._request)
        if principal.kind not in {Kind.USER, Kind.SERVICE_ACCOUNT}:
            return None
        if principal.method is Method.CLI:
            raise PermissionDenied("A command line that was signed in does not open this API. Use a service account's token.")
        if principal.method is not Method.BEARER:  # a browser sends every other credential unasked
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
