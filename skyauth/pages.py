"""Error pages for browsers, in the place of problem details, which other clients get."""

import json
from dataclasses import dataclass, replace
from typing import Final

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.loader import render_to_string
from django.utils.deprecation import MiddlewareMixin

from authn.requests import refusal_of
from core.content_negotiation import prefers_html
from core.problems import CONTENT_TYPE

_API: Final = "/api/"  # returns problem details to every client


@dataclass(frozen=True, slots=True)
class ErrorText:
    """What happened, and what to do next."""

    title: str
    cause: str
    advice: str


_TEXTS: Final = {
    400: ErrorText("Bad request", "SkyAuth cannot read what your browser sent.", "Go back and try again."),
    # No more than the 401 itself reveals: unknown, wrong and disabled look the same (promise 19).
    401: ErrorText(
        "Sign-in failed",
        "Your browser, or the single sign-on in front of this address, sent a credential that is not valid.",
        "Close the browser and open it again, or sign out at the single sign-on and sign in again. "
        "If that does not help, ask an administrator of SkyAuth to check your user.",
    ),
    403: ErrorText("Not allowed", "Your role does not allow this.", "Ask an administrator of SkyAuth for a role that does."),
    404: ErrorText("Page not found", "There is no page at this address.", "Start again from Home."),
    500: ErrorText("SkyAuth failed", "The error was logged.", "Give an administrator of SkyAuth this reference:"),
    503: ErrorText("SkyAuth cannot answer right now", "Nothing was changed.", "Load the page again in a moment."),
}
_CSRF: Final = ErrorText(
    "This form was not accepted",
    "The form has no valid CSRF token of this browser. Nothing was changed. "
    "This happens after you sign in or out in another tab, or when cookies are off.",
    "Go back, load the page again, and send the form again.",
)


class ErrorPages(MiddlewareMixin):
    """Replaces problem details with an error page where a browser opens a page; status and headers stay."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Return the response or its error page. Does not use the database, which can be the cause of the error."""
        text = _CSRF if getattr(request, "csrf_failed", False) else _TEXTS.get(response.status_code)
        if text is None or response.headers.get("Content-Type") != CONTENT_TYPE or not _opens_page(request):
            return response
        if response.status_code == 401 and (refusal := refusal_of(request)) is not None and refusal.message:
            text = ErrorText(text.title, refusal.message, "After that, sign out at the single sign-on and sign in again.")
        if response.status_code == 403 and text is not _CSRF:
            text = replace(text, cause=json.loads(response.content)["detail"])  # type: ignore[attr-defined] # no problem is a stream
        reference = getattr(request, "id", "") if response.status_code == 500 else ""
        content = render_to_string("skyauth/problem.html", {"text": text, "reference": reference})
        page = HttpResponse(content, status=response.status_code)
        for name, value in response.headers.items():
            if name not in ("Content-Type", "Content-Length"):
                page[name] = value
        page.cookies = response.cookies
        return page


def _opens_page(request: HttpRequest) -> bool:
    """Return whether a browser opens a page. Scripts on a page get problem details."""
    if request.path.startswith(_API) or request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
        return False
    return prefers_html(request.headers.get("Accept", ""))
