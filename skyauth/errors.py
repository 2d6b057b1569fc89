"""The last word on a request that no door answered. `skyauth.pages` puts it in words for people."""

import sys

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse

from authn.jwt_verify import KeysUnavailable
from authn.passwords import Busy
from core.problems import problem
from core.responses import respond, unavailable


def server_error(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Return 503 with Retry-After for a database, key set or hashing queue that does not answer in time, else 500."""
    if isinstance(sys.exc_info()[1], OperationalError | InterfaceError | Busy | KeysUnavailable):
        return unavailable()
    return respond(problem(500, "internal-error", "SkyAuth failed to answer this. It has been logged."))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Return the 400 of a request that cannot be read."""
    return respond(problem(400, "invalid", "This request cannot be read."))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Return the 403 of a page that the role does not open."""
    return respond(problem(403, "forbidden", "Your role does not permit this."))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Return the 404 of an address at which nothing is."""
    return respond(problem(404, "not-found", "There is nothing at this address."))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:  # noqa: ARG001 - Django has logged the reason
    """Return the 403 of a form that nothing proves to be from a page of ours (promise 36)."""
    request.csrf_failed = True  # type: ignore[attr-defined]
    return respond(problem(403, "csrf", "This form did not come from a page of SkyAuth in this browser. Nothing was changed."))
