"""Turns exceptions into error responses: problem details (RFC 9457)."""

from collections.abc import Iterator
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import DataError, IntegrityError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.request import Request

from api.parsers import TooLarge
from authn import view_access
from authn.passwords import Busy
from authn.provider_keys import KeysUnavailable
from authn.requests import principal_of
from core import errors
from core.problems import RETRY_AFTER_SECONDS, problem
from core.responses import respond as response_of
from core.responses import unauthenticated, unavailable
from rbac.auth_methods import Interface
from rbac.denials import record_denial
from rbac.principals import Method

_NOT_FOR_CLI: Final = "A CLI session cannot use this API. Use the token of a service account."
_TEMPORARY = (OperationalError, InterfaceError, Busy, KeysUnavailable)


class PreconditionRequired(exceptions.APIException):
    """The request needs If-Match (RFC 6585 section 3)."""

    status_code = 428
    default_detail = "Send If-Match with the ETag of the version that you have read, or * to accept any version."
    default_code = "precondition-required"


def respond(exc: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """Return the error response for `exc`, or None for an unexpected exception, to which Django responds with 500.

    A 403 is recorded in the audit log.
    """
    response = _error_response(exc, context.get("view"))
    if response is not None and response.status_code == 403:
        _record(context["request"], exc)
    return response


def refuse(request: HttpRequest) -> HttpResponse:
    """Return the response to a sign-in method that cannot use the API: 403 to a CLI session, else 401."""
    if principal_of(request).method is not Method.CLI:
        return unauthenticated(basic=settings.AUTH_BASIC)
    record_denial(principal_of(request), f"{request.method} {request.path}", _NOT_FOR_CLI)
    return response_of(problem(403, _CODES[403], _NOT_FOR_CLI))


@view_access.belongs_to(Interface.PUBLIC)
@csrf_exempt  # it changes nothing, and every method gets the 404
def unknown(request: HttpRequest, **kwargs: Any) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Return the 404 of a path that the API does not have, which is also that of a name or id with a character that none has."""
    if f"{request.path}/" == reverse("api:index"):
        hint = "Its index ends with a slash:"
    elif request.path.endswith("/"):
        hint = "Leave out the slash at the end. The index:"
    else:
        hint = "If the path is right, a name or id in it cannot exist. The index:"
    return response_of(problem(404, "not-found", f"The API has no such path. {hint} {reverse('api:index')}"))


def _error_response(exc: Exception, view: Any) -> HttpResponse | None:
    if isinstance(exc, errors.ServiceError):
        response = response_of(problem(exc.status, exc.code, exc.message, exc.fields))
        if exc.status == 503:
            response["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response
    if isinstance(exc, _TEMPORARY):
        return unavailable()
    error = _as_api_exception(exc)
    if error is None:
        return None
    if error.status_code == 401:
        return unauthenticated(basic=settings.AUTH_BASIC)
    if isinstance(error, exceptions.ValidationError):
        fields = dict(_flattened(error.detail))
        detail = " ".join(f"{name}: {' '.join(texts)}" for name, texts in fields.items())
        return response_of(problem(400, "invalid", detail, fields))
    detail = str(error.detail)
    if isinstance(error, exceptions.UnsupportedMediaType) and detail.startswith("Unsupported media type"):
        detail += f" Send the body as Content-Type: {' or '.join(parser.media_type for parser in view.parser_classes)}."
    return response_of(problem(error.status_code, _CODES.get(error.status_code, "error"), detail))


def _as_api_exception(exc: Exception) -> exceptions.APIException | None:
    """Return the DRF exception for an exception of Django or of the database, or None."""
    match exc:
        case exceptions.APIException():
            return exc
        case Http404():
            return exceptions.NotFound("Not found, or you are not allowed to see it.")
        case PermissionDenied():
            return exceptions.PermissionDenied(str(exc) or None)
        case RequestDataTooBig():
            return TooLarge(f"The body is larger than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,} bytes.")
        case SuspiciousOperation() | UnreadablePostError():
            return exceptions.ParseError("The request cannot be read.")
        case DataError():
            return exceptions.ParseError("The request has a value that cannot be stored or compared.")
        case IntegrityError():
            return _Conflict()
        case _:
            return None


class _Conflict(exceptions.APIException):
    """Two concurrent requests wrote the same unique value, and the database accepted one of them."""

    status_code = 409
    default_detail = "Another request changed this at the same time. Read it again, then repeat your change."
    default_code = "conflict"


_CODES = {
    400: "malformed",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    409: "conflict",
    413: "too-large",
    415: "unsupported-media-type",
    428: "precondition-required",
}


def _flattened(detail: Any, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield each field's path, such as `uids.3`, and its messages. Errors that belong to no field have the path `detail`."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            part = "detail" if name == "non_field_errors" else str(name)
            yield from _flattened(inner, f"{path}.{part}" if path else part)
    else:
        yield path or "detail", [str(text) for text in detail]


def _record(request: Request, exc: Exception) -> None:
    reason = exc.message if isinstance(exc, errors.ServiceError) else str(getattr(exc, "detail", exc)) or "forbidden"
    record_denial(principal_of(request._request), f"{request.method} {request.path}", reason)
