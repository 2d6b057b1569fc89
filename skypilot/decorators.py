"""What every endpoint of this door has in common, whoever calls."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from authn.interfaces import answers_refusals
from skypilot import errors, versions

View = Callable[..., HttpResponse]


def speaks_skypilot(answer: View) -> View:
    """Return the view that answers as SkyPilot does: its errors, and no CSRF token, which its clients never send.

    It tells the server's versions as SkyPilot does: once it is known who asks, and that they may.

    `answer` itself sees to it that no page of another site writes anything, and that a bad credential is refused.
    """

    @csrf_exempt
    @answers_refusals
    @wraps(answer)
    def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            response = answer(request, *args, **kwargs)
        except Exception as error:
            foreseen = errors.respond(error)
            if foreseen is None:
                raise
            if isinstance(error, PermissionDenied) or getattr(error, "early", False):
                return foreseen
            response = foreseen
        return response if response.status_code == 401 else versions.tell(request, response)

    return view
