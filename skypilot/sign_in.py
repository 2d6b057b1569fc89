"""CLI login: the pages on which a user authorizes the `sky` CLI from a browser, and the endpoint that the CLI polls.

Opening a page grants nothing; its button does. There are three ways back to the terminal: the CLI polls until the user has
authorized it; the page sends the token to the port on which the CLI listens on the user's computer; or the user copies it.
"""

import base64
import json
import logging
import re
from datetime import timedelta
from typing import Any, Final

from csp.decorators import csp_update
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views import View

from authn import cli_login
from authn.cli_login import CliCredentials
from authn.requests import principal_of, proxied_of
from authn.view_access import belongs_to, ignores_credentials
from core.errors import ServiceError
from core.responses import sign_in_first
from core.same_origin import require_same_origin
from core.text import clean
from rbac.auth_methods import Interface
from rbac.denials import record_denial
from rbac.principals import Method, Principal
from skypilot.decorators import skypilot_view
from skypilot.errors import HTTPException, json_response, unauthenticated
from skypilot.operations import record_denials

logger = logging.getLogger("skyauth.sign_in")

MIN_PORT: Final = 1_024  # system services listen on lower ports
MAX_PORT: Final = 65_535
_RELOAD_SECONDS: Final = 2  # until the sky CLI has polled
_PORT: Final = re.compile(r"[0-9]{4,5}\Z")
_BROWSER_HEADERS: Final = frozenset({"sec-fetch-site", "accept-language", "referer", "origin"})
_NOT_FOUND: Final = "Session not found"


class _InvalidAddress(Exception):
    """The query of the page's address is not one that a CLI has made. `message` says what is wrong."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _ConsentView(View):
    """A page that shows what the user is about to grant, and to which client, with a button that grants it."""

    http_method_names = ["get", "head", "post", "options"]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Return the page, or the error as a page."""
        try:
            require_same_origin(request)
            response: HttpResponse = super().dispatch(request, *args, **kwargs)  # type: ignore[assignment] # none of the handlers streams
        except _InvalidAddress as error:
            response = _error_page(request, error.status, error.message)
        except (ServiceError, PermissionDenied) as error:
            status = error.status if isinstance(error, ServiceError) else 403
            record_denial(principal_of(request), f"{request.method} {request.path}", str(error))
            response = _error_page(request, status, str(error))
        response["Cache-Control"] = "no-store"
        return response

    def _consent_page(self, request: HttpRequest, **details: Any) -> HttpResponse:
        """Return the page. It names the client that opened it, so that a user can tell another's login from their own."""
        context = {
            "principal": (actor := principal_of(request)),
            "by_proxy": actor.method is Method.PROXY,
            "agent": _agent(request),
            "now": (now := timezone.now()),
            "days": settings.CLI_SESSION_DAYS,
            "valid_until": now + timedelta(days=settings.CLI_SESSION_DAYS),
            **details,
        }
        return render(request, "skypilot/consent.html", context)


def refuse_page(request: HttpRequest) -> HttpResponse:
    """Return the response to a sign-in method that cannot use the pages: a redirect to the sign-in page, or 403 as a page."""
    principal = principal_of(request)
    if principal.is_authenticated:
        reason = str(cli_login.refusal(principal.method))
        record_denial(principal, f"{request.method} {request.path}", reason)
        response = _error_page(request, 403, reason)
    else:
        response = sign_in_first(request)
    response["Cache-Control"] = "no-store"
    return response


@skypilot_view
def refuse_json(request: HttpRequest) -> HttpResponse:
    """Return the response to a sign-in method that cannot authorize a CLI login: 401 or 403 in SkyPilot's format."""

    def handler(actor: Principal) -> HttpResponse:
        raise cli_login.refusal(actor.method)

    if principal_of(request).method in {Method.NONE, Method.SHARED}:
        return unauthenticated(request)
    return record_denials(request, handler)


class AuthorizeView(_ConsentView):
    """`/auth/authorize?code_challenge=...`: authorizes the CLI that polls with the matching verifier."""

    def get(self, request: HttpRequest) -> HttpResponse:
        challenge = _challenge_from_query(request)
        login_request, waited = cli_login.login_request(challenge), "waited" in request.GET
        page = self._consent_page(request, code=challenge[-8:], challenge=challenge, asker=login_request, waited=waited)
        if login_request is None and not waited:
            # The sky CLI opens this page a second before it polls.
            page["Refresh"] = f"{_RELOAD_SECONDS}; url=?code_challenge={challenge}&waited"
        return page

    def post(self, request: HttpRequest) -> HttpResponse:
        cli_login.authorize(actor=principal_of(request), challenge=_challenge_from_query(request), cookies=_cookies(request))
        return render(request, "skypilot/authorized.html")


class TokenView(_ConsentView):
    """`/token`: shows the credentials of the CLI once, to copy; with `local_port`, the page's script also sends them there."""

    def get(self, request: HttpRequest) -> HttpResponse:
        port = _port(request)
        return self._consent_page(request, port=port, nonce=cli_login.issue_nonce(principal_of(request), port))

    def post(self, request: HttpRequest) -> HttpResponse:
        actor, port = principal_of(request), _port(request)
        credentials = cli_login.grant_now(
            actor=actor, cookies=_cookies(request), port=port, nonce=request.POST.get("nonce", ""), agent=_agent(request)
        )
        response = render(request, "skypilot/token.html", {"token": _encoded(credentials), "port": port})
        if port is None:
            return response
        # The page's script can connect to this port only.
        limited: HttpResponse = csp_update({"connect-src": [f"http://localhost:{port}"]})(lambda _: response)(request)  # type: ignore[assignment]
        return limited


@belongs_to(Interface.CLI_LOGIN, refuse_json)
@skypilot_view
def authorize(request: HttpRequest) -> HttpResponse:
    """Authorize a CLI to sign in as the caller. It is for pages of the same origin, which send no CSRF token."""

    def handler(actor: Principal) -> HttpResponse:
        if request.method != "POST":
            raise HTTPException(405, "Method Not Allowed", headers={"Allow": "POST"})
        cli_login.authorize(actor=actor, challenge=_challenge_from_body(request), cookies=_cookies(request))
        return json_response({"status": "authorized"})

    return record_denials(request, handler)


@belongs_to(Interface.PUBLIC)
@ignores_credentials
@skypilot_view
def redeem(request: HttpRequest) -> HttpResponse:
    """Return the credentials that were authorized for the `code_verifier`, once; 404 before. The CLI polls every second.

    The CLI gives up at any other status, so it is 404 also while the database is unavailable.
    """
    if request.method != "GET":
        raise HTTPException(405, "Method Not Allowed", headers={"Allow": "GET"})
    verifier = request.GET.get("code_verifier", "")
    if not verifier:
        raise HTTPException(400, "code_verifier is required")
    if _is_browser(request):
        raise HTTPException(404, _NOT_FOUND)
    try:
        credentials = cli_login.redeem(verifier=verifier, client=proxied_of(request).client, agent=_agent(request))
    except (OperationalError, InterfaceError):
        logger.warning("The database is unavailable: a CLI that polls for its login must try again.", extra={"seldom": True})
        credentials = None
    if credentials is None:
        raise HTTPException(404, _NOT_FOUND)
    return json_response({"token": _encoded(credentials)})


def _encoded(credentials: CliCredentials) -> str:
    """Return the credentials as the CLI reads them: base64 of a JSON object."""
    value = {"v": 1, "user": credentials.uid, "cookies": dict(credentials.cookies)}
    return base64.b64encode(json.dumps(value).encode()).decode()


def _challenge_from_query(request: HttpRequest) -> str:
    challenge = request.GET.get("code_challenge", "")
    if not cli_login.is_challenge(challenge):
        raise _InvalidAddress(400, "This URL is incomplete. Open the complete URL that your terminal printed.")
    return challenge


def _challenge_from_body(request: HttpRequest) -> str:
    """Return the challenge in the JSON body, which an HTML form of another site cannot send."""
    try:
        body = json.loads(request.body) if request.content_type == "application/json" else None
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise HTTPException(400, "Invalid JSON body")
    challenge = body.get("code_challenge")
    if not challenge:
        raise HTTPException(400, "code_challenge is required")
    if not isinstance(challenge, str) or not cli_login.is_challenge(challenge):
        raise HTTPException(400, "Invalid code_challenge format")
    return challenge


def _port(request: HttpRequest) -> int | None:
    """Return the port on which the CLI listens, or None. Raises _InvalidAddress."""
    text = request.GET.get("local_port")
    if text is None:
        return None
    if not _PORT.match(text) or not MIN_PORT <= int(text) <= MAX_PORT:
        raise _InvalidAddress(422, f"The local_port in this URL is not a number from {MIN_PORT} to {MAX_PORT}.")
    return int(text)


def _cookies(request: HttpRequest) -> dict[str, str]:
    """Return the browser's cookies as sent, with quotes and escapes, which the values of some authentication proxies need."""
    pairs = (pair.partition("=") for pair in request.headers.get("Cookie", "").split(";"))
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


def _is_browser(request: HttpRequest) -> bool:
    """Return whether a browser sends the request: any page can make it do so, and it would look like the user's terminal."""
    return not _BROWSER_HEADERS.isdisjoint(name.lower() for name in request.headers)


def _agent(request: HttpRequest) -> str:
    return clean(request.headers.get("User-Agent", ""), 200)


def _error_page(request: HttpRequest, status: int, message: str) -> HttpResponse:
    return render(request, "skypilot/refused.html", {"message": message}, status=status)
