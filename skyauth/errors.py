"""Django's error handlers, which return problem details. `skyauth.pages` turns these into pages for browsers."""

import sys

from django.core.exceptions import DisallowedHost
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse

from authn.passwords import Busy
from authn.provider_keys import KeysUnavailable
from core.problems import problem
from core.responses import respond, unavailable
from core.text import clean


def server_error(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Return 503 with Retry-After when a database, key set or hashing slot is not available in time, else 500."""
    if isinstance(sys.exc_info()[1], OperationalError | InterfaceError | Busy | KeysUnavailable):
        return unavailable()
    return respond(problem(500, "internal-error", "SkyAuth failed to answer this request. The error was logged."))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if isinstance(exception, DisallowedHost):
        host = clean(request.headers.get("Host", ""), 64)
        text = f"SkyAuth does not serve the host {host!r}. Use the host of PUBLIC_URL, or add this one to ALLOWED_HOSTS."
        return respond(problem(400, "invalid", text))
    return respond(problem(400, "invalid", "The request is malformed."))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 - Django's signature
    return respond(problem(403, "forbidden", "Your role does not allow this."))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 - Django's signature
    return respond(problem(404, "not-found", "There is no page at this address."))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:  # noqa: ARG001 - Django has logged the reason
    """Return the 403 for a form without a valid CSRF token (promise 36)."""
    request.csrf_failed = True  # type: ignore[attr-defined]
    return respond(problem(403, "csrf", "The form has no valid CSRF token of this browser. Nothing was changed."))
