"""Refusals in the shapes that SkyPilot's CLI and dashboard understand: `{"detail": ...}`, and a bare text for Basic."""

import json
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import DataError, IntegrityError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, UnreadablePostError

from authn.credentials import InvalidCredential
from authn.jwt_verify import KeysUnavailable
from authn.passwords import Busy
from authn.requests import refusal_of
from core import errors
from core.problems import RETRY_AFTER_SECONDS
from integrations.skypilot.client import UpstreamUnavailable
from rbac.principals import Method
from skypilot.versions import Outdated

FORBIDDEN: Final = "Forbidden"
_OURS: Final = (OperationalError, InterfaceError, Busy, KeysUnavailable, UpstreamUnavailable)
_STATUS: Final[dict[type[errors.ServiceError], int]] = {
    errors.Forbidden: 403,
    errors.Invalid: 400,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Stale: 409,
}


class Refused(Exception):
    """Ends a request with this status and `detail`, a sentence or what a validation found."""

    early = False  # whether it comes before the versions are looked at: SkyPilot's answer then does not tell its own

    def __init__(self, status: int, detail: Any, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


class RoleForbidden(Refused):
    """Ends a request that the caller's role does not allow, whatever it is (403)."""

    early = True

    def __init__(self) -> None:
        super().__init__(403, FORBIDDEN)


def as_json(value: Any, status: int = 200) -> HttpResponse:
    """Return the response with this value, for the caller alone and for once."""
    response = HttpResponse(json.dumps(value), status=status, content_type="application/json")
    response["Cache-Control"] = "no-store"
    return response


def respond(exc: Exception) -> HttpResponse | None:
    """Return the answer to a request that ended in `exc`, or None when nobody foresaw it."""
    match exc:
        case Refused():
            response = as_json({"detail": exc.detail}, exc.status)
            for name, value in exc.headers.items():
                response[name] = value
            return response
        case Outdated():
            return as_json({"error": "version_mismatch", "message": str(exc)}, 400)
        case errors.ServiceError():
            return as_json({"detail": exc.message}, _STATUS.get(type(exc), 400))
        case PermissionDenied():
            return as_json({"detail": str(exc) or FORBIDDEN}, 403)
        case RequestDataTooBig():
            return as_json({"detail": f"The body is larger than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,} bytes."}, 413)
        case SuspiciousOperation() | UnreadablePostError() | DataError():
            return as_json({"detail": "The request cannot be read, or has a value that cannot be stored."}, 400)
        case IntegrityError():
            return as_json({"detail": "Somebody else changed this at the same moment. Repeat your change."}, 409)
        case _ if isinstance(exc, _OURS):
            response = as_json({"detail": "SkyAuth cannot answer right now. Try again shortly."}, 503)
            response["Retry-After"] = str(RETRY_AFTER_SECONDS)
            return response
        case _:
            return None


def unauthenticated(request: HttpRequest) -> HttpResponse:
    """Return the 401 of a missing or bad credential, in the shape that SkyPilot gives to what was shown.

    Whatever is wrong with a token or a password, the words are the same (promises 16 and 19).
    """
    refusal = refusal_of(request)
    if refusal is not None and refusal.method == Method.BEARER:
        return as_json({"detail": _about_token(request)}, 401)
    if not settings.AUTH_BASIC:
        return as_json({"detail": "Authentication required"}, 401)
    response = as_json("Authentication required" if refusal is None else _about_password(refusal), 401)
    response["WWW-Authenticate"] = 'Basic realm="SkyPilot"'
    return response


def _about_token(request: HttpRequest) -> str:
    shown = request.headers.get("Authorization")
    if shown is None:
        return "Authentication required"  # X-Skypilot-Auth-Mode asks for a token
    if not shown.lower().startswith("bearer"):
        return "Invalid authentication method"
    if not settings.ENABLE_SERVICE_ACCOUNTS:
        return "Service account authentication disabled"
    return "Invalid or expired service account token"


def _about_password(refusal: InvalidCredential) -> str:
    if refusal.method != Method.BASIC:
        return "Invalid authentication method"
    return "Invalid basic auth" if refusal.reason == "malformed Basic credential" else "Invalid credentials"
