"""What every endpoint of this door has in common, whoever calls."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from accounts.middleware import answers_refusals
from skypilot import errors, versions

View = Callable[..., HttpResponse]


def speaks_skypilot(answer: View) -> View:
    """Return the view that answers as SkyPilot does: its errors, its version headers, and no CSRF token, which it never sends.

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
            response = foreseen
        return versions.tell(request, response)

    return view
