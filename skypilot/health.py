"""`GET /api/health`, from which the CLI learns whether it is signed in, must sign in, or is too old."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from accounts.models import SignIn, User
from authn.credentials import InvalidCredential
from authn.requests import principal_of, refusal_of
from authn.view_access import belongs_to
from rbac.auth_methods import Interface
from rbac.principals import Kind, Method, Principal
from skypilot import errors, server_info, versions
from skypilot.account_ids import caller_id
from skypilot.decorators import skypilot_view


@belongs_to(Interface.PUBLIC)
@skypilot_view
def health(request: HttpRequest) -> HttpResponse:
    """Return SkyPilot's response for this caller: 200 `healthy` or `needs_auth`, 400 for an old client, 401 for a bad token.

    If the upstream does not respond it is 503, after which the CLI waits and tries again. A probe, which sends no versions,
    gets `healthy` as long as SkyAuth runs. It is never a redirect or a page: the CLI would report that it cannot connect.
    """
    if request.method != "GET":
        raise errors.HTTPException(405, "Method Not Allowed", headers={"Allow": "GET"})
    principal, refusal = principal_of(request), refusal_of(request)
    if refusal is not None and refusal.method == Method.BEARER:
        return errors.unauthenticated(request)
    client = versions.client_version(request)
    versions.require_supported(client)
    if _must_sign_in(principal, refusal):
        return errors.json_response(_body("needs_auth", None) if client is not None else {"status": "healthy"})
    body = _body("healthy", _user(principal))
    if principal.kind is Kind.SHARED:
        # No user: the CLI uses the local user name, as behind an ingress with Basic authentication.
        body |= {"basic_auth_enabled": False, "ingress_basic_auth_enabled": True}
    return errors.json_response(body)


def _must_sign_in(principal: Principal, refusal: InvalidCredential | None) -> bool:
    """Return whether the CLI must sign in. After a wrong password it is false: the CLI would start with that password again."""
    if principal.is_authenticated:
        return False
    return refusal is None or refusal.method != Method.BASIC or not settings.AUTH_BASIC


def _body(status: str, user: dict[str, Any] | None) -> dict[str, Any]:
    info = server_info.current()
    return {
        "status": status,
        "api_version": info.api_version,
        "version": info.version,
        "version_on_disk": info.version_on_disk,
        "commit": info.commit,
        "basic_auth_enabled": settings.AUTH_BASIC,
        "user": user,
        "service_account_token_enabled": settings.ENABLE_SERVICE_ACCOUNTS,
        "ingress_basic_auth_enabled": False,
        "latest_version": info.latest_version,
        "external_proxy_auth_enabled": settings.AUTH_USER_HEADER_FORMAT != "off",
        "telemetry_enabled": info.telemetry_enabled,
        "restrict_config_to_admins": info.restrict_config_to_admins,
    }


def _user(principal: Principal) -> dict[str, Any] | None:
    """Return the caller in SkyPilot's format, without SkyPilot's field for the hash of the password."""
    if principal.kind is Kind.SERVICE_ACCOUNT:
        return {"id": caller_id(principal), "name": principal.name, "user_type": "sa"}
    if principal.kind is not Kind.USER:
        return None
    user = User.objects.filter(uid=principal.uid).first()
    if user is None:
        return None
    return {
        "id": user.uid,
        "name": user.username,
        "created_at": int(user.created_at.timestamp()),
        "user_type": user_type(user.sign_in),
        "preferred_workspace": None,
    }


def user_type(sign_in: str) -> str:
    """Return SkyPilot's `user_type`. Its dashboard offers a password reset for "basic"."""
    return "sso" if sign_in == SignIn.SSO else "basic"
