"""Which sign-in methods open which interface. An interface is closed to every method that its row does not name."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from rbac.principals import Method


class Interface(StrEnum):
    """A part of SkyAuth that answers requests, and whose views accept the same sign-in methods."""

    GATEWAY = "gateway"
    METRICS = "metrics"
    REST_API = "REST API"
    SKYPILOT_API = "SkyPilot API"
    SKYPILOT_CHANGES = "changes through the SkyPilot API"
    CLI_LOGIN = "CLI login"
    DASHBOARD = "dashboard"
    DJANGO_ADMIN = "Django admin"
    PUBLIC = "public"  # sign-in pages, the SkyPilot API's health, and what returns nothing but a redirect or a 404


_BROWSER: Final = frozenset({Method.SESSION, Method.BASIC, Method.PROXY})
_API: Final = _BROWSER | {Method.BEARER}

# `Method.NONE` is in a row where an anonymous caller gets the view's own answer, which may still be a refusal.
# A CLI session opens the protected API and the SkyPilot API only. It could otherwise extend its own life: with a token, with
# a further CLI login, or with a new admin (promise 37, ADR 13).
OPENED_BY: Final[Mapping[Interface, frozenset[Method]]] = {
    Interface.GATEWAY: _API | {Method.CLI, Method.SHARED, Method.NONE},
    Interface.METRICS: _API,
    Interface.REST_API: _API,
    Interface.SKYPILOT_API: _API | {Method.CLI},
    Interface.SKYPILOT_CHANGES: _API,
    Interface.CLI_LOGIN: _BROWSER,
    Interface.DASHBOARD: _BROWSER,
    Interface.DJANGO_ADMIN: _BROWSER,
    Interface.PUBLIC: frozenset(Method) - {Method.COMMAND},
}


def opens(method: Method, interface: Interface | None) -> bool:
    """Return whether a caller that signed in by `method` can use the interface; None stands for a view that names none."""
    return interface is not None and method in OPENED_BY.get(interface, frozenset())


def is_sent_unasked(method: Method) -> bool:
    """Return whether browsers add this credential to requests by themselves, also to those that a page of another site starts."""
    return method is not Method.BEARER
