"""Refusals and failures in words, for people who open a page in a browser; programs get the problem as it is."""

from dataclasses import dataclass
from typing import Final

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.loader import render_to_string
from django.utils.deprecation import MiddlewareMixin

from core.content_negotiation import prefers_html
from core.problems import CONTENT_TYPE

_API: Final = "/api/"  # answers everybody in its one shape


@dataclass(frozen=True, slots=True)
class Words:
    """What happened, and what to do about it."""

    title: str
    happened: str
    todo: str


_WORDS: Final = {
    400: Words("This cannot be read", "Your browser sent something that SkyAuth cannot make sense of.", "Go back and try again."),
    # As little as the 401 itself: unknown, wrong and disabled look the same (promise 19).
    401: Words(
        "You could not be signed in",
        "Your browser, or the single sign-on in front of this address, sent something that does not sign you in.",
        "Close the browser and open it again, or sign out at the single sign-on and in again. "
        "If that does not help, ask an admin of SkyAuth to look at your user.",
    ),
    403: Words("Not allowed", "Your role does not permit this.", "An admin of SkyAuth can give you a role that does."),
    404: Words("There is no such page", "Nothing is at this address, or not any more.", "Start again from Home."),
    500: Words("SkyAuth failed", "This went wrong, and it has been logged.", "Tell an admin of SkyAuth this reference:"),
    503: Words("SkyAuth cannot answer right now", "Nothing was changed.", "Load the page again in a moment."),
}
_FORM: Final = Words(
    "This form was not accepted",
    "SkyAuth cannot tell that it came from one of its own pages in this browser. Nothing was changed. "
    "It happens when you signed in or out in another tab, or when cookies are switched off.",
    "Go back, load the page again, and send the form once more.",
)


class InWords(MiddlewareMixin):
    """Turns the problem that a request ended in into a page, where a browser opened one; status and headers stay."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Return the response, or the page in its place. Nothing here asks the database, which may be what is down."""
        words = _FORM if getattr(request, "csrf_failed", False) else _WORDS.get(response.status_code)
        if words is None or response.headers.get("Content-Type") != CONTENT_TYPE or not _opens_page(request):
            return response
        reference = getattr(request, "id", "") if response.status_code == 500 else ""
        content = render_to_string("skyauth/problem.html", {"words": words, "reference": reference})
        page = HttpResponse(content, status=response.status_code)
        for name, value in response.headers.items():
            if name not in ("Content-Type", "Content-Length"):
                page[name] = value
        page.cookies = response.cookies
        return page


def _opens_page(request: HttpRequest) -> bool:
    """Return whether a browser opens a page; a script on one gets what a program gets."""
    if request.path.startswith(_API) or request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
        return False
    return prefers_html(request.headers.get("Accept", ""))
