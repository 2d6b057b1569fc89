"""What the middleware has put on a request, with its types."""

from django.http import HttpRequest

from authn import credentials
from authn.credentials import Basic, InvalidCredential
from authn.proxy_header_middleware import SCOPE_KEY
from authn.proxy_headers import NO_PROXY_INFO, ProxyInfo, canonical_address
from authn.session_store import digest
from rbac.principals import ANONYMOUS, Method, Principal


class AuthenticatedRequest(HttpRequest):
    """A request behind RequestIdMiddleware and PrincipalMiddleware. For annotations: Django makes the requests."""

    id: str
    principal: Principal
    refusal: InvalidCredential


def principal_of(request: HttpRequest) -> Principal:
    """Return the principal of a request; ANONYMOUS where PrincipalMiddleware has not run."""
    principal = getattr(request, "principal", ANONYMOUS)
    return principal if isinstance(principal, Principal) else ANONYMOUS


def refusal_of(request: HttpRequest) -> InvalidCredential | None:
    """Return what is wrong with the request's credential, for a view that answers such requests itself; else None."""
    refusal = getattr(request, "refusal", None)
    return refusal if isinstance(refusal, InvalidCredential) else None


def proxied_of(request: HttpRequest | None) -> ProxyInfo:
    """Return what the trusted-proxy header filter found. Without the filter (WSGI, the test client) no proxy is trusted."""
    info = getattr(request, "scope", {}).get(SCOPE_KEY, NO_PROXY_INFO)
    if not isinstance(info, ProxyInfo):
        return NO_PROXY_INFO
    if info is NO_PROXY_INFO and request is not None:
        return ProxyInfo(peer=(address := canonical_address(str(request.META.get("REMOTE_ADDR", "")))), client=address)
    return info


def raw_values(request: HttpRequest, name: str) -> list[bytes]:
    """Return every value of a header as it was received. A server without raw headers has joined them into one."""
    scope = getattr(request, "scope", None)
    if scope is not None:
        wanted = name.lower().encode("ascii")
        return [value for key, value in scope["headers"] if key.lower() == wanted]
    value = request.headers.get(name)
    return [] if value is None else [value.encode("latin-1", "replace")]


def basic_of(request: HttpRequest) -> Basic | None:
    """Return the name and password that authenticated the request, or None when another credential did."""
    if principal_of(request).method is not Method.BASIC:
        return None
    credential = credentials.read(
        authorization=raw_values(request, "Authorization"), auth_mode=(), proxied=proxied_of(request), session_key=None
    )
    return credential if isinstance(credential, Basic) else None


def current_session(request: HttpRequest) -> str:
    """Return what the session that authenticated the request is stored under; "" where another credential did."""
    if principal_of(request).method is not Method.SESSION:
        return ""
    key = request.session.session_key
    return digest(key) if key else ""
