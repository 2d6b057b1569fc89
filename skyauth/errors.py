"""The last word on an exception that nobody handled."""

import sys

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse

from accounts.assertions import KeysUnavailable
from accounts.passwords import Busy
from accounts.problems import problem
from accounts.responses import respond, unavailable


def server_error(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Return 503 with Retry-After for a database, key set or hashing queue that does not answer in time, else 500."""
    if isinstance(sys.exc_info()[1], OperationalError | InterfaceError | Busy | KeysUnavailable):
        return unavailable()
    return respond(problem(500, "internal-error", "SkyAuth failed to answer this. It has been logged."))
