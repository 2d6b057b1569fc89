"""What `doctor` looks for in the SkyPilot API server behind SkyAuth (SKYPILOT_URL): asked directly, as provisioning does."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from django.conf import settings

from accounts.models import SyncedRole
from doctor.finding import Finding, Severity
from integrations.skypilot.client import Reply, UpstreamUnavailable, ask

_PATIENCE_SECONDS: Final = 10.0  # an operator waits at the terminal; the configuration takes the server a while
_SHOWN: Final = 5
_GUIDE: Final = "See docs/guides/skypilot.md."


def examine() -> Iterator[Finding]:
    """Yield what is wrong with the server, or between it and us; nothing where there is none."""
    if not settings.SKYPILOT_URL:
        return
    try:
        health = _health()
    except UpstreamUnavailable as error:
        yield Finding(Severity.ERROR, "skypilot.unreachable", str(error), f"See SKYPILOT_URL: {settings.SKYPILOT_URL}")
        return
    if not {"api_version", "version", "external_proxy_auth_enabled"} <= health.keys():
        what = f"At {settings.SKYPILOT_URL} is something else than a SkyPilot API server."
        yield Finding(Severity.ERROR, "skypilot.other", what, "See SKYPILOT_URL.")
        return
    if health["external_proxy_auth_enabled"] is not True:
        what = "The SkyPilot API server does not believe X-Auth-Request-Email, so nobody is let through to it."
        yield Finding(Severity.ERROR, "skypilot.header", what, f"Switch auth.external_proxy on there. {_GUIDE}")
        return
    if health["version"] != settings.SKYPILOT_VERSION:
        what = f"The SkyPilot API server is {health['version']}; this SkyAuth was tried with {settings.SKYPILOT_VERSION}."
        yield Finding(Severity.INFO, "skypilot.version", what, "Try it before you rely on it.")
    # Not every server lets itself be asked: one that is busy answers too late, and then there is no finding.
    with suppress(UpstreamUnavailable):
        yield from _default_role()
    with suppress(UpstreamUnavailable):
        yield from _roles()


def _health() -> dict[str, Any]:
    versions = {
        "X-SkyPilot-API-Version": str(settings.SKYPILOT_API_VERSION),
        "X-SkyPilot-Version": settings.SKYPILOT_VERSION,
    }
    return _object(ask("GET", "/api/health", headers=versions))


def _default_role() -> Iterator[Finding]:
    """Yield what is to be said of the role that the server gives by itself; it is `admin` unless it says otherwise."""
    begun = ask("GET", "/workspaces/config")
    request_id = begun.headers.get("x-skypilot-request-id", "")
    ended = _object(ask("GET", f"/api/get?request_id={request_id}", timeout=_PATIENCE_SECONDS))
    try:
        config = json.loads(str(ended.get("return_value")))
    except ValueError:
        return
    rbac = config.get("rbac") if isinstance(config, dict) else None
    role = rbac.get("default_role", "admin") if isinstance(rbac, dict) else "admin"
    if role == "admin":
        what = "The SkyPilot API server makes everybody an admin of whom it was not told otherwise."
        yield Finding(Severity.WARNING, "skypilot.default-role", what, "Set rbac.default_role to viewer in its config.yaml.")


def _roles() -> Iterator[Finding]:
    """Yield whose role at the server is another one than it was told."""
    reply = ask("GET", "/users")
    rows = reply.json() if reply.status == 200 else None
    theirs = {row.get("name"): row.get("role") for row in rows if isinstance(row, dict)} if isinstance(rows, list) else {}
    told = SyncedRole.objects.filter(server=settings.SKYPILOT_URL).exclude(role="").order_by("name").values_list("name", "role")
    names = [name for name, role in told if theirs.get(name, role) != role]
    missing = [name for name, _ in told if name not in theirs]
    if wrong := [*names, *missing][:_SHOWN] if theirs else []:
        what = f"Somebody else changed roles at the SkyPilot API server, or it lost them: {', '.join(wrong)}."
        yield Finding(Severity.ERROR, "skypilot.roles", what, "Run: manage.py tell_roles")


def _object(reply: Reply) -> dict[str, Any]:
    """Return the object of an answer, empty when it is none."""
    try:
        value = reply.json()
    except UpstreamUnavailable:
        return {}
    return value if isinstance(value, dict) else {}
