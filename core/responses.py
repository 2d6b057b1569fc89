"""Error responses of the interfaces that Django serves: problem details, or a redirect to the sign-in page."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from core.problems import CONTENT_TYPE, NOT_SIGNED_IN, RETRY_AFTER_SECONDS, challenges, problem
from core.redirects import nearest_safe_path


def respond(body: Mapping[str, Any]) -> HttpResponse:
    """Return the response with these problem details."""
    response = HttpResponse(json.dumps(body), status=body["status"], content_type=CONTENT_TYPE)
    response["Cache-Control"] = "no-store"
    return response


def unauthenticated(*, basic: bool, detail: str = NOT_SIGNED_IN) -> HttpResponse:
    """Return the 401 for a bad or missing credential. `detail` is the same for all strangers (promises 16, 19)."""
    response = respond(problem(401, "unauthenticated", detail))
    response["WWW-Authenticate"] = ", ".join(challenges(basic=basic))
    return response


def unavailable() -> HttpResponse:
    """Return the 503 for an error of SkyAuth's own."""
    response = respond(problem(503, "unavailable", "SkyAuth cannot answer right now. Nothing was changed. Try again shortly."))
    response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def sign_in_first(request: HttpRequest, target: str = "") -> HttpResponseRedirect:
    """Return the 302 to the sign-in page, with `target` or else the request's path as the return URL."""
    path, next_path = reverse("dashboard:sign-in"), nearest_safe_path(target or request.get_full_path())
    return HttpResponseRedirect(f"{path}?next={quote(next_path, safe='')}" if next_path else path)
