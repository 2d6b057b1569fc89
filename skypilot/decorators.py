"""What every endpoint of the SkyPilot API has in common."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from authn.view_access import answers_refusals
from skypilot import errors, versions

View = Callable[..., HttpResponse]


def skypilot_view(handler: View) -> View:
    """Return a view that answers as SkyPilot does: with its errors, and without a CSRF token, which its clients never send.

    Its responses have the server's versions, except those to unauthenticated callers and to callers without permission.

    `handler` itself rejects invalid credentials, and writes that a page of another site has started.
    """

    @csrf_exempt
    @answers_refusals
    @wraps(handler)
    def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            response = handler(request, *args, **kwargs)
        except Exception as error:
            expected = errors.error_response(error)
            if expected is None:
                raise
            if isinstance(error, PermissionDenied | errors.RoleForbidden):
                return expected
            response = expected
        return response if response.status_code == 401 else versions.add_headers(request, response)

    return view
