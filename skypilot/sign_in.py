"""Signing in the `sky` CLI: pages where a person sees what asks and agrees, and the two endpoints that the CLI's ways meet at.

A GET never makes a credential. The person's click does, or the CLI that shows the verifier afterwards (`accounts.handover`).
"""

import json
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, Final
from urllib.parse import quote

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from accounts import handover, once
from accounts.middleware import principal_of, proxied_of
from accounts.origins import require_same_origin
from accounts.principals import Kind, Method, Principal
from rbac.errors import Conflict, Invalid
from skypilot import errors
from skypilot.wire import speaks_skypilot

_PORT: Final = re.compile(r"[0-9]{4,5}\Z")
_PURPOSE: Final = "sign in a command line"
_COMPARED: Final = 8  # last characters of the address in the terminal
_ASKS_AGAIN: Final = "Begin again in your terminal with: sky api login"

Page = Callable[[HttpRequest], HttpResponse]


def _for_people(page: Page) -> Page:
    """Return the page for a person who signed in in a browser; strangers sign in first, and come back to it as it was."""

    @require_http_methods(["GET", "POST"])
    @wraps(page)
    def view(request: HttpRequest) -> HttpResponse:
        actor = principal_of(request)
        if actor.kind is Kind.ANONYMOUS or actor.method is Method.CLI:
            there = quote(request.get_full_path(), safe="/")
            return _kept_nowhere(HttpResponseRedirect(f"{reverse('dashboard:sign-in')}?next={there}"))
        if not handover.may_authorize(actor):
            return _refused(request, "This is for people", _what_others_do(actor), 403)
        require_same_origin(request)
        return _kept_nowhere(page(request))

    return view


@_for_people
def authorize(request: HttpRequest) -> HttpResponse:
    """Show who asks, by which challenge (GET), and let it be answered (POST)."""
    challenge = request.GET.get("code_challenge", "")
    if not challenge:
        return _refused(request, "Nothing asks", _ASKS_AGAIN, 200)
    if not handover.valid_challenge(challenge):
        return _refused(request, "This address is not whole", _ASKS_AGAIN, 400)
    if request.method == "GET":
        return _consent(request, shown=challenge[-_COMPARED:])
    try:
        handover.authorize(actor=principal_of(request), challenge=challenge, **_browser(request))
    except Conflict as error:
        return _refused(request, "This request is taken", error.message, 409)
    return render(request, "skypilot/authorized.html")


@_for_people
def token(request: HttpRequest) -> HttpResponse:
    """Show what asks (GET), and make the text for it (POST): sent to a port of the person's own machine, or to be pasted."""
    port = request.GET.get("local_port")
    if port is not None and not (_PORT.match(port) and 1_024 <= int(port) <= 65_535):
        return _refused(request, "This address leads nowhere", f"local_port is a port from 1024 to 65535. {_ASKS_AGAIN}", 422)
    number = None if port is None else int(port)
    actor = principal_of(request)
    if request.method == "GET":
        return _consent(request, port=number, nonce=once.offer(actor, _PURPOSE))
    with transaction.atomic():
        if not once.take(request.POST.get("nonce", ""), actor, _PURPOSE):
            return _refused(request, "This was authorized already", f"The text is shown once. {_ASKS_AGAIN}", 409)
        text = handover.text_to_paste(actor=actor, **_browser(request))
    response = render(request, "skypilot/token.html", {"text": text, "port": number})
    if number is not None:
        target = f"http://localhost:{number}"
        response._csp_update = {"connect-src": [target]}  # type: ignore[attr-defined] # of django-csp
    return response


@speaks_skypilot
def authorize_by_script(request: HttpRequest) -> HttpResponse:
    """Return what SkyPilot's own page is answered when its button is pressed: POST, a JSON body, 200 `authorized`.

    Of a browser, which sends its credential unasked, it is believed only with the origin of the page (promise 36).
    """
    if request.method != "POST":
        raise errors.Refused(405, "Method Not Allowed", headers={"Allow": "POST"})
    actor = principal_of(request)
    if not handover.may_authorize(actor):
        return errors.unauthenticated(request) if actor.kind is not Kind.SERVICE_ACCOUNT else _barred()
    if actor.method is not Method.BASIC and request.headers.get("Origin") is None:
        raise errors.Refused(403, "A page of this origin must send this.")
    require_same_origin(request)
    challenge = _challenge(request.body)
    try:
        handover.authorize(actor=actor, challenge=challenge, **_browser(request))
    except Invalid as error:
        raise errors.Refused(400, error.message) from None
    return errors.as_json({"status": "authorized"})


@speaks_skypilot
def poll(request: HttpRequest) -> HttpResponse:
    """Return the text for the CLI that shows the right verifier, once; 404 until there is one. Whoever asks.

    The CLI asks once a second and gives up at any other answer, so nothing is throttled here: a verifier has 256 bits.
    """
    if request.method != "GET":
        raise errors.Refused(405, "Method Not Allowed", headers={"Allow": "GET"})
    verifier = request.GET.get("code_verifier", "")
    if not verifier:
        raise errors.Refused(400, "code_verifier is required")
    text = handover.redeem(verifier=verifier, address=proxied_of(request).client, agent=_agent(request))
    if text is None:
        raise errors.Refused(404, "Session not found")
    return errors.as_json({"token": text})


def _barred() -> HttpResponse:
    raise errors.Refused(403, "A service account has its token already: sky api login --token")


def _challenge(body: bytes) -> str:
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        sent = None
    if not isinstance(sent, dict):
        raise errors.Refused(400, "Invalid JSON body")
    challenge = sent.get("code_challenge")
    if not challenge:
        raise errors.Refused(400, "code_challenge is required")
    if not isinstance(challenge, str) or not handover.valid_challenge(challenge):
        raise errors.Refused(400, "Invalid code_challenge format")
    return challenge


def _consent(request: HttpRequest, **shown: Any) -> HttpResponse:
    facts = {"principal": principal_of(request), "days": settings.CLI_SESSION_DAYS, "minutes": handover.LIFE.seconds // 60}
    return render(request, "skypilot/consent.html", {**facts, "address": proxied_of(request).client, **shown})


def _refused(request: HttpRequest, title: str, text: str, status: int) -> HttpResponse:
    return _kept_nowhere(render(request, "skypilot/refused.html", {"heading": title, "text": text}, status=status))


def _what_others_do(actor: Principal) -> str:
    if actor.kind is Kind.SERVICE_ACCOUNT:
        return "A service account has its token already. Use: sky api login --token"
    return "A shared password names nobody in particular. Use: sky api login -e http://NAME:PASSWORD@HOST"


def _kept_nowhere(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store, no-transform"
    return response


def _browser(request: HttpRequest) -> dict[str, Any]:
    """Return where the person sits, and the cookies that are not ours, as they were sent: quotes and all."""
    ours = {settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME}
    pairs = (pair.partition("=") for pair in request.headers.get("Cookie", "").split(";"))
    cookies = {name.strip(): value.strip() for name, equals, value in pairs if equals and name.strip() not in ours}
    return {"cookies": cookies, "address": proxied_of(request).client, "agent": _agent(request)}


def _agent(request: HttpRequest) -> str:
    return request.headers.get("User-Agent", "")[:200]
