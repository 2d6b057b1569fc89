"""`GET /api/health`: by this one answer the CLI decides whether it may go on, must sign in, or is too old."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from accounts.models import SignIn, User
from authn.credentials import InvalidCredential
from authn.interfaces import belongs_to
from authn.requests import principal_of, refusal_of
from rbac.auth_methods import Interface
from rbac.principals import Kind, Method, Principal
from skypilot import errors, server_info, versions
from skypilot.decorators import speaks_skypilot


@belongs_to(Interface.PUBLIC)
@speaks_skypilot
def health(request: HttpRequest) -> HttpResponse:
    """Return SkyPilot's answer for this caller: 200 `healthy` or `needs_auth`, 400 for an old client, 401 for a bad token.

    The upstream's silence is 503, at which the CLI waits and asks again; a probe, which names no versions, is told that SkyAuth
    lives. Never a redirect nor a page: the CLI would say that it cannot connect.
    """
    if request.method != "GET":
        raise errors.Refused(405, "Method Not Allowed", headers={"Allow": "GET"})
    principal, refusal = principal_of(request), refusal_of(request)
    if refusal is not None and refusal.method == Method.BEARER:
        return errors.unauthenticated(request)
    client = versions.client_of(request)
    versions.require(client)
    if _must_sign_in(principal, refusal):
        return errors.as_json(_body("needs_auth", None) if client is not None else {"status": "healthy"})
    body = _body("healthy", _user(principal))
    if principal.kind is Kind.SHARED:
        # Nobody in particular: the CLI goes on under the name that its machine gives it, as behind an ingress with Basic.
        body |= {"basic_auth_enabled": False, "ingress_basic_auth_enabled": True}
    return errors.as_json(body)


def _must_sign_in(principal: Principal, refusal: InvalidCredential | None) -> bool:
    """Return whether the CLI is to begin a sign-in. A wrong password is no reason: it would begin one with that password."""
    if principal.is_authenticated:
        return False
    return refusal is None or refusal.method != Method.BASIC or not settings.AUTH_BASIC


def _body(status: str, user: dict[str, Any] | None) -> dict[str, Any]:
    known = server_info.current()
    return {
        "status": status,
        "api_version": known.api_version,
        "version": known.version,
        "version_on_disk": known.version_on_disk,
        "commit": known.commit,
        "basic_auth_enabled": settings.AUTH_BASIC,
        "user": user,
        "service_account_token_enabled": settings.ENABLE_SERVICE_ACCOUNTS,
        "ingress_basic_auth_enabled": False,
        "latest_version": known.latest_version,
        "external_proxy_auth_enabled": settings.AUTH_USER_HEADER_FORMAT != "off",
        "telemetry_enabled": known.telemetry_enabled,
        "restrict_config_to_admins": known.restrict_config_to_admins,
    }


def _user(principal: Principal) -> dict[str, Any] | None:
    """Return who calls, as SkyPilot names it; the hash of a password is nobody's to see."""
    if principal.kind is Kind.SERVICE_ACCOUNT:
        return {"id": principal.uid, "name": principal.name, "user_type": "sa"}
    if principal.kind is not Kind.USER:
        return None
    user = User.objects.filter(uid=principal.uid).first()
    if user is None:
        return None
    return {
        "id": user.uid,
        "name": user.username,
        "created_at": int(user.created_at.timestamp()),
        "user_type": user_type(user),
        "preferred_workspace": None,
    }


def user_type(user: User) -> str:
    """Return SkyPilot's word for how a user signs in; the dashboard offers to reset the password of "basic" ones."""
    return "sso" if user.sign_in == SignIn.SSO else "basic"
