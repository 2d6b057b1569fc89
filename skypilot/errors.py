"""Errors in the shapes that SkyPilot's CLI and dashboard read: `{"detail": ...}`, and a JSON string for Basic."""

import json
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import DataError, IntegrityError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, UnreadablePostError

from authn.credentials import InvalidCredential
from authn.passwords import Busy
from authn.provider_keys import KeysUnavailable
from authn.requests import refusal_of
from core.errors import ServiceError
from core.problems import RETRY_AFTER_SECONDS
from integrations.skypilot.client import UpstreamUnavailable
from rbac.principals import Method
from skypilot.versions import ClientOutdated

FORBIDDEN: Final = "Forbidden"
_TEMPORARY: Final = (OperationalError, InterfaceError, Busy, KeysUnavailable, UpstreamUnavailable)


class HTTPException(Exception):
    """Ends a request with this status and `detail`, as FastAPI's exception of this name does in SkyPilot.

    `detail` is a sentence, or the list of errors of a validation.
    """

    def __init__(self, status: int, detail: Any, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


class RoleForbidden(HTTPException):
    """Ends a request that the caller's role does not allow (403). SkyPilot sends it before it reads the client's version."""

    def __init__(self) -> None:
        super().__init__(403, FORBIDDEN)


def json_response(value: Any, status: int = 200) -> HttpResponse:
    """Return the response with this JSON value, not to be stored."""
    response = HttpResponse(json.dumps(value), status=status, content_type="application/json")
    response["Cache-Control"] = "no-store"
    return response


def error_response(exc: Exception) -> HttpResponse | None:
    """Return the response to a request that ended in `exc`, or None for an unexpected exception."""
    match exc:
        case HTTPException():
            response = json_response({"detail": exc.detail}, exc.status)
            for name, value in exc.headers.items():
                response[name] = value
            return response
        case ClientOutdated():
            return json_response({"error": "version_mismatch", "message": str(exc)}, 400)
        case ServiceError():
            return json_response({"detail": exc.message}, exc.status)
        case PermissionDenied():
            return json_response({"detail": str(exc) or FORBIDDEN}, 403)
        case RequestDataTooBig():
            return json_response({"detail": f"The body is larger than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,} bytes."}, 413)
        case SuspiciousOperation() | UnreadablePostError() | DataError():
            return json_response({"detail": "The request cannot be read, or has a value that cannot be stored."}, 400)
        case IntegrityError():
            return json_response({"detail": "Another request changed this at the same time. Repeat your change."}, 409)
        case _ if isinstance(exc, _TEMPORARY):
            response = json_response({"detail": "SkyAuth cannot answer right now. Try again shortly."}, 503)
            response["Retry-After"] = str(RETRY_AFTER_SECONDS)
            return response
        case _:
            return None


def unauthenticated(request: HttpRequest) -> HttpResponse:
    """Return the 401 for a missing or invalid credential, in the shape that SkyPilot uses for this kind of credential.

    The message says nothing about what is wrong with a token or a password (promises 16 and 19).
    """
    refusal = refusal_of(request)
    if refusal is not None and refusal.message:
        return json_response({"detail": refusal.message}, 401)
    if refusal is not None and refusal.method == Method.BEARER:
        return json_response({"detail": _token_message(request)}, 401)
    if not settings.AUTH_BASIC:
        return json_response({"detail": "Authentication required"}, 401)
    response = json_response("Authentication required" if refusal is None else _password_message(refusal), 401)
    response["WWW-Authenticate"] = 'Basic realm="SkyPilot"'
    return response


def _token_message(request: HttpRequest) -> str:
    authorization = request.headers.get("Authorization")
    if authorization is None:
        return "Authentication required"  # X-Skypilot-Auth-Mode requires a token
    if not authorization.lower().startswith("bearer"):
        return "Invalid authentication method"
    if not settings.ENABLE_SERVICE_ACCOUNTS:
        return "Service account authentication disabled"
    return "Invalid or expired service account token"


def _password_message(refusal: InvalidCredential) -> str:
    if refusal.method != Method.BASIC:
        return "Invalid authentication method"
    return "Invalid basic auth" if refusal.reason == "malformed Basic credential" else "Invalid credentials"
