"""Answers to who may not go on, of the doors that Django serves: in the one shape of `core.problems`, or a way to sign in."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from core.problems import CONTENT_TYPE, NOT_SIGNED_IN, RETRY_AFTER_SECONDS, challenges, problem
from core.redirects import safe_next_path


def respond(body: Mapping[str, Any]) -> HttpResponse:
    """Return the response that carries a problem."""
    response = HttpResponse(json.dumps(body), status=body["status"], content_type=CONTENT_TYPE)
    response["Cache-Control"] = "no-store"
    return response


def unauthenticated(*, basic: bool) -> HttpResponse:
    """Return the 401 that every bad or missing credential gets, whatever was wrong with it (promises 16 and 19)."""
    response = respond(problem(401, "unauthenticated", NOT_SIGNED_IN))
    response["WWW-Authenticate"] = ", ".join(challenges(basic=basic))
    return response


def unavailable() -> HttpResponse:
    """Return the 503 of trouble that is ours."""
    response = respond(problem(503, "unavailable", "SkyAuth cannot answer right now. Nothing was changed; try again shortly."))
    response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def sign_in_first(request: HttpRequest) -> HttpResponseRedirect:
    """Return the 302 that sends somebody who opens a page to sign in, and from there back to it."""
    path, back = reverse("dashboard:sign-in"), safe_next_path(request.get_full_path())
    return HttpResponseRedirect(f"{path}?next={quote(back, safe='')}" if back else path)
