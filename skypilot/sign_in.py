"""Signing the sky CLI in from a browser: pages on which a person consents, and what the CLI asks meanwhile.

Opening a page hands nothing over; a button on it does. Three ways lead back to the terminal: the CLI asks until it may have what
was authorised; the page sends it to the port on which the CLI listens on the person's own computer; or the person copies it.
"""

import base64
import json
import logging
import re
from typing import Any, Final

from csp.decorators import csp_update
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views import View

from authn import cli_login
from authn.cli_login import CliCredentials
from authn.interfaces import belongs_to, ignores_credentials
from authn.requests import principal_of, proxied_of
from core.errors import Conflict, ServiceError
from core.responses import sign_in_first
from core.same_origin import require_same_origin
from core.text import clean
from rbac.auth_methods import Interface
from rbac.denials import record_denial
from rbac.principals import Method, Principal
from skypilot.decorators import speaks_skypilot
from skypilot.errors import Refused, as_json, unauthenticated
from skypilot.operations import recorded

logger = logging.getLogger("skyauth.sign_in")

LOWEST_PORT: Final = 1_024  # below, programs of the system listen
HIGHEST_PORT: Final = 65_535
_PORT: Final = re.compile(r"[0-9]{4,5}\Z")
_BROWSERS: Final = frozenset({"sec-fetch-site", "accept-language", "referer", "origin"})
_NOT_FOUND: Final = "Session not found"


class _Unusable(Exception):
    """The address of the page is not one that a CLI made; the sentence says what is wrong with it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _Consent(View):
    """A page that says what is about to be handed over, to whom, and has a button for it."""

    http_method_names = ["get", "head", "post", "options"]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Return the page, or what is wrong as a page."""
        try:
            require_same_origin(request)
            response: HttpResponse = super().dispatch(request, *args, **kwargs)  # type: ignore[assignment] # none of ours streams
        except _Unusable as error:
            response = _refused(request, error.status, error.message)
        except (ServiceError, PermissionDenied) as error:
            status = 409 if isinstance(error, Conflict) else 403
            record_denial(principal_of(request), f"{request.method} {request.path}", str(error))
            response = _refused(request, status, str(error))
        response["Cache-Control"] = "no-store"
        return response

    def _show(self, request: HttpRequest, **asked: Any) -> HttpResponse:
        """Return the page that asks for the consent. It says where it was opened from, lest another's looks like one's own."""
        context = {
            "principal": (actor := principal_of(request)),
            "by_proxy": actor.method is Method.PROXY,
            "agent": _agent(request),
            **asked,
        }
        return render(request, "skypilot/consent.html", context)


def refuse(request: HttpRequest) -> HttpResponse:
    """Return the answer to a sign-in method that does not open the pages: the way to the sign-in page, or 403 as a page."""
    principal = principal_of(request)
    if principal.is_authenticated:
        reason = str(cli_login.refusal(principal.method))
        record_denial(principal, f"{request.method} {request.path}", reason)
        response = _refused(request, 403, reason)
    else:
        response = sign_in_first(request)
    response["Cache-Control"] = "no-store"
    return response


@speaks_skypilot
def refuse_as_json(request: HttpRequest) -> HttpResponse:
    """Return the answer to a sign-in method that cannot authorize a CLI login: 401 or 403 as SkyPilot words it."""

    def answer(actor: Principal) -> HttpResponse:
        raise cli_login.refusal(actor.method)

    if principal_of(request).method in {Method.NONE, Method.SHARED}:
        return unauthenticated(request)
    return recorded(request, answer)


class Authorize(_Consent):
    """`/auth/authorize?code_challenge=...`: the CLI asks until a person has consented here."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Ask for the consent."""
        challenge = _challenge(request)
        return self._show(request, code=challenge[-8:], asker=cli_login.asker(challenge))

    def post(self, request: HttpRequest) -> HttpResponse:
        """Take the consent."""
        cli_login.authorize(actor=principal_of(request), challenge=_challenge(request), cookies=_cookies(request))
        return render(request, "skypilot/authorized.html")


class Token(_Consent):
    """`/token`: shows what the CLI signs in with, once, to be copied; with `local_port`, its script sends it there as well."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Ask for the consent, in a form that works once."""
        port = _port(request)
        return self._show(request, port=port, nonce=cli_login.issue_nonce(principal_of(request), port))

    def post(self, request: HttpRequest) -> HttpResponse:
        """Take the consent, and show the token."""
        actor, port = principal_of(request), _port(request)
        handed = cli_login.grant_now(
            actor=actor, cookies=_cookies(request), port=port, nonce=request.POST.get("nonce", ""), agent=_agent(request)
        )
        response = render(request, "skypilot/token.html", {"token": _token(handed), "port": port})
        if port is None:
            return response
        # To this very port, and to no other, the page's script may speak.
        allowed: HttpResponse = csp_update({"connect-src": [f"http://localhost:{port}"]})(lambda _: response)(request)  # type: ignore[assignment]
        return allowed


@belongs_to(Interface.CLI_LOGIN, refuse_as_json)
@speaks_skypilot
def authorize(request: HttpRequest) -> HttpResponse:
    """Return 200 when the caller has let a CLI sign in as them; for pages of this very origin, which need no CSRF token."""

    def answer(actor: Principal) -> HttpResponse:
        if request.method != "POST":
            raise Refused(405, "Method Not Allowed", headers={"Allow": "POST"})
        cli_login.authorize(actor=actor, challenge=_given_challenge(request), cookies=_cookies(request))
        return as_json({"status": "authorized"})

    return recorded(request, answer)


@belongs_to(Interface.PUBLIC)
@ignores_credentials
@speaks_skypilot
def redeem(request: HttpRequest) -> HttpResponse:
    """Return what was authorised for the `code_verifier`, once; 404 while it was not. The CLI asks once a second, as nobody.

    At any other answer it gives up, so a database that is busy just now is 404 too: what was authorised is there a second later.
    """
    if request.method != "GET":
        raise Refused(405, "Method Not Allowed", headers={"Allow": "GET"})
    verifier = request.GET.get("code_verifier", "")
    if not verifier:
        raise Refused(400, "code_verifier is required")
    if _by_browser(request):
        raise Refused(404, _NOT_FOUND)
    try:
        handed = cli_login.redeem(verifier=verifier, client=proxied_of(request).client, agent=_agent(request))
    except (OperationalError, InterfaceError):
        logger.exception("A command line that asks for its sign-in was put off.")
        handed = None
    if handed is None:
        raise Refused(404, _NOT_FOUND)
    return as_json({"token": _token(handed)})


def _token(handed: CliCredentials) -> str:
    """Return what the CLI reads: base64 of a JSON object, the same in all three ways."""
    value = {"v": 1, "user": handed.uid, "cookies": dict(handed.cookies)}
    return base64.b64encode(json.dumps(value).encode()).decode()


def _challenge(request: HttpRequest) -> str:
    challenge = request.GET.get("code_challenge", "")
    if not cli_login.is_challenge(challenge):
        raise _Unusable(400, "This address is not whole. Open it as your terminal printed it, up to its last character.")
    return challenge


def _given_challenge(request: HttpRequest) -> str:
    """Return the challenge of a JSON body. A form of another site cannot say that it is JSON."""
    try:
        given = json.loads(request.body) if request.content_type == "application/json" else None
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise Refused(400, "Invalid JSON body")
    challenge = given.get("code_challenge")
    if not challenge:
        raise Refused(400, "code_challenge is required")
    if not isinstance(challenge, str) or not cli_login.is_challenge(challenge):
        raise Refused(400, "Invalid code_challenge format")
    return challenge


def _port(request: HttpRequest) -> int | None:
    """Return the port on which the CLI listens, or None where it does not."""
    text = request.GET.get("local_port")
    if text is None:
        return None
    if not _PORT.match(text) or not LOWEST_PORT <= int(text) <= HIGHEST_PORT:
        raise _Unusable(422, f"The local_port in this address is no number from {LOWEST_PORT} to {HIGHEST_PORT}.")
    return int(text)


def _cookies(request: HttpRequest) -> dict[str, str]:
    """Return the browser's cookies as it sent them, with their quotes and escapes: some auth proxies' values need them."""
    pairs = (pair.partition("=") for pair in request.headers.get("Cookie", "").split(";"))
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


def _by_browser(request: HttpRequest) -> bool:
    """Return whether a browser asks: any page can have it ask, and it would look like a terminal of its owner's."""
    return not _BROWSERS.isdisjoint(name.lower() for name in request.headers)


def _agent(request: HttpRequest) -> str:
    return clean(request.headers.get("User-Agent", ""), 200)


def _refused(request: HttpRequest, status: int, message: str) -> HttpResponse:
    return render(request, "skypilot/refused.html", {"message": message}, status=status)
