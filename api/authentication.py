"""Who calls the API: the principal that the middleware found, if it is somebody, and if the browser did not act on its own."""

from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from rest_framework.authentication import BaseAuthentication, CSRFCheck
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request

from accounts.principals import ANONYMOUS, Kind, Method, Principal
from accounts.problems import challenges

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def principal_of(request: HttpRequest) -> Principal:
    """Return the principal of a request; anonymous where the middleware has not run."""
    found = getattr(request, "principal", ANONYMOUS)
    return found if isinstance(found, Principal) else ANONYMOUS


class PrincipalAuthentication(BaseAuthentication):
    """Lets in users and service accounts. The shared credential is nobody in particular, and opens nothing here."""

    def authenticate(self, request: Request) -> tuple[Principal, Method] | None:
        """Return the principal and how it was recognised, or None. Raises PermissionDenied (promise 36)."""
        principal = principal_of(request._request)
        if principal.kind not in {Kind.USER, Kind.SERVICE_ACCOUNT}:
            return None
        if principal.method is not Method.BEARER:  # a browser sends every other credential unasked
            require_same_origin(request._request)
        if principal.method is Method.SESSION:
            _require_csrf_token(request._request)
        return principal, principal.method

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - DRF's signature
        """Return the challenges of a 401."""
        return ", ".join(challenges(basic=settings.AUTH_BASIC))


def require_same_origin(request: HttpRequest) -> None:
    """Raise PermissionDenied for a write that a browser sends from another site's page (Fetch Metadata, RFC 6454).

    A client that sends neither header is no browser of today, and has no credential that it was not given.
    """
    if request.method in SAFE_METHODS:
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in {"same-origin", "none"}:
        raise PermissionDenied("A page of another site must not change anything here.")
    origin = request.headers.get("Origin")
    if origin is not None and _canonical(origin) not in {settings.PUBLIC_URL, f"{request.scheme}://{request.get_host()}".lower()}:
        raise PermissionDenied("A page of another origin must not change anything here.")


def _canonical(origin: str) -> str:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}".lower()


def _require_csrf_token(request: HttpRequest) -> None:
    """Run Django's own check, which the view was exempt from until it was known that a session asks."""
    check = CSRFCheck(lambda _: HttpResponse())
    check.process_request(request)
    if reason := check.process_view(request, lambda _: HttpResponse(), (), {}):
        raise PermissionDenied(f"The CSRF check failed: {reason}")
