"""Turns whatever stopped a request into the one error shape, `core.problems` (RFC 9457)."""

from collections.abc import Iterator
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import DataError, IntegrityError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.request import Request

from authn import interfaces
from authn.jwt_verify import KeysUnavailable
from authn.passwords import Busy
from authn.requests import principal_of
from core import errors
from core.problems import problem
from core.responses import respond as response_of
from core.responses import unauthenticated, unavailable
from rbac.auth_methods import Interface
from rbac.denials import record_denial
from rbac.principals import Method

_SERVICE_STATUS: dict[type[errors.ServiceError], int] = {
    errors.Forbidden: 403,
    errors.Invalid: 400,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Stale: 412,
}
_NOT_FOR_CLI: Final = "A command line that was signed in does not open this API. Use a service account's token."
_OURS = (OperationalError, InterfaceError, Busy, KeysUnavailable)


class PreconditionRequired(exceptions.APIException):
    """The request must say which version it is about (RFC 6585 section 3)."""

    status_code = 428
    default_detail = "Send If-Match with the ETag of what you have read, or * for whatever there is."
    default_code = "precondition-required"


def respond(exc: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """Return the answer to a request that ended in `exc`, or None when nobody foresaw it: then Django answers 500.

    A 403 to somebody who is signed in is recorded.
    """
    response = _answer(exc)
    if response is not None and response.status_code == 403:
        _record(context["request"], exc)
    return response


def refuse(request: HttpRequest) -> HttpResponse:
    """Return the answer to a sign-in method that does not open the API: 403 to a CLI session, else 401."""
    if principal_of(request).method is not Method.CLI:
        return unauthenticated(basic=settings.AUTH_BASIC)
    record_denial(principal_of(request), f"{request.method} {request.path}", _NOT_FOR_CLI)
    return response_of(problem(403, _CODES[403], _NOT_FOR_CLI))


@interfaces.belongs_to(Interface.PUBLIC)
@csrf_exempt  # nothing is done here, so nothing needs proof, and 404 is the answer to every method
def unknown(request: HttpRequest, **kwargs: Any) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Return the 404 of a path that the API does not have."""
    return response_of(problem(404, "not-found", "The API has no such path. URLs have no slash at the end."))


def _answer(exc: Exception) -> HttpResponse | None:
    if isinstance(exc, errors.ServiceError):
        return response_of(problem(_SERVICE_STATUS.get(type(exc), 400), exc.code, exc.message, exc.fields))
    if isinstance(exc, _OURS):
        return unavailable()
    foreseen = _translated(exc)
    if foreseen is None:
        return None
    if foreseen.status_code == 401:
        return unauthenticated(basic=settings.AUTH_BASIC)
    if isinstance(foreseen, exceptions.ValidationError):
        fields = dict(_flat(foreseen.detail))
        detail = " ".join(f"{name}: {' '.join(texts)}" for name, texts in fields.items())
        return response_of(problem(400, "invalid", detail, fields))
    return response_of(problem(foreseen.status_code, _code(foreseen), str(foreseen.detail)))


def _translated(exc: Exception) -> exceptions.APIException | None:
    """Return DRF's form of an exception of Django's, or None."""
    match exc:
        case exceptions.APIException():
            return exc
        case Http404():
            return exceptions.NotFound("There is no such thing, or you may not see it.")
        case PermissionDenied():
            return exceptions.PermissionDenied()
        case RequestDataTooBig():
            return _TooLarge()
        case SuspiciousOperation() | UnreadablePostError():
            return exceptions.ParseError("The request cannot be read.")
        case DataError():
            return exceptions.ParseError("The request has a value that cannot be stored or compared.")
        case IntegrityError():
            return _Conflict()
        case _:
            return None


class _TooLarge(exceptions.APIException):
    status_code = 413
    default_detail = f"The body is larger than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,} bytes."
    default_code = "too-large"


class _Conflict(exceptions.APIException):
    """Two requests wanted the same at the same time, and the database let one of them have it."""

    status_code = 409
    default_detail = "Somebody else changed this at the same moment. Read it again and repeat your change."
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


def _code(exc: exceptions.APIException) -> str:
    return _CODES.get(exc.status_code, "error")


def _flat(detail: Any, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield the faults of a validation with the path of their field, such as `uids.3`; those of none are `detail`.

    Each is a list of texts (DRF makes it one), by field or by index in as many mappings as the body has levels.
    """
    if isinstance(detail, dict):
        for name, inner in detail.items():
            here = "detail" if name == "non_field_errors" else str(name)
            yield from _flat(inner, f"{path}.{here}" if path else here)
    else:
        yield path or "detail", [str(text) for text in detail]


def _record(request: Request, exc: Exception) -> None:
    reason = exc.message if isinstance(exc, errors.ServiceError) else str(getattr(exc, "detail", "forbidden"))
    record_denial(principal_of(request._request), f"{request.method} {request.path}", reason)
