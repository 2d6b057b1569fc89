"""Checks of the SkyPilot API server behind SkyAuth (SKYPILOT_URL). They send requests to it, as role sync does."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from django.conf import settings

from accounts.models import SyncedRole
from doctor.finding import NAMES, Check, Finding, Severity
from integrations.skypilot.client import Reply, UpstreamUnavailable, ask
from integrations.skypilot.names import MAX_BYTES
from integrations.skypilot.role_sync import roles_of

_USERS_SECONDS: Final = 10.0  # for the list of all users
_CONFIG_SECONDS: Final = 10.0  # the server takes a while to return its configuration, and the operator waits at the terminal
_GUIDE: Final = "See docs/guides/skypilot.md."


def find(check: Check) -> Iterator[Finding]:  # noqa: ARG001 - its findings have codes of their own
    """Yield the problems of the server, or of the connection to it; none where SKYPILOT_URL is empty."""
    if not settings.SKYPILOT_URL:
        return
    try:
        health = _health()
    except UpstreamUnavailable as error:
        yield Finding(Severity.ERROR, "skypilot.unreachable", str(error), f"Check SKYPILOT_URL: {settings.SKYPILOT_URL}")
        return
    if not {"api_version", "version", "external_proxy_auth_enabled"} <= health.keys():
        what = f"The server at {settings.SKYPILOT_URL} is not a SkyPilot API server."
        yield Finding(Severity.ERROR, "skypilot.other", what, "Check SKYPILOT_URL.")
        return
    if health["external_proxy_auth_enabled"] is not True:
        what = "The SkyPilot API server does not trust the header X-Auth-Request-Email, so SkyAuth forwards no request to it."
        yield Finding(Severity.ERROR, "skypilot.header", what, f"Enable auth.external_proxy in its configuration. {_GUIDE}")
        return
    if health["version"] != settings.SKYPILOT_VERSION:
        what = (
            f"The SkyPilot API server has version {health['version']}; this SkyAuth was tested with {settings.SKYPILOT_VERSION}."
        )
        yield Finding(Severity.INFO, "skypilot.version", what, "Test them together before you rely on them.")
    # A busy server answers these too late; then nothing is known, and nothing is reported.
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
    """Yield a finding where the server gives new users the role `admin`, as it does unless rbac.default_role is set."""
    response = ask("GET", "/workspaces/config")
    request_id = response.headers.get("x-skypilot-request-id", "")
    result = _object(ask("GET", f"/api/get?request_id={request_id}", timeout=_CONFIG_SECONDS))
    try:
        config = json.loads(str(result.get("return_value")))
    except ValueError:
        return
    rbac = config.get("rbac") if isinstance(config, dict) else None
    role = rbac.get("default_role", "admin") if isinstance(rbac, dict) else "admin"
    if role == "admin":
        what = "The SkyPilot API server makes every new user an admin until it receives another role."
        yield Finding(Severity.WARNING, "skypilot.default-role", what, "Set rbac.default_role to viewer in its config.yaml.")


def _roles() -> Iterator[Finding]:
    """Yield the users whose role on the server is not the one that SkyAuth sent."""
    response = ask("GET", "/users", timeout=_USERS_SECONDS, max_bytes=MAX_BYTES)
    rows = response.json() if response.status == 200 else None
    roles = {row.get("name"): row.get("role") for row in rows if isinstance(row, dict)} if isinstance(rows, list) else {}
    if not roles:
        return
    yield from _refused(roles)
    sent = SyncedRole.objects.filter(server=settings.SKYPILOT_URL).exclude(role="").order_by("name").values_list("name", "role")
    different = [name for name, role in sent if roles.get(name, role) != role]
    missing = [name for name, _ in sent if name not in roles]
    if names := [*different, *missing]:
        what = "Users whose role was changed or lost on the SkyPilot API server"
        first = tuple(names[:NAMES])
        yield Finding(Severity.ERROR, "skypilot.roles", what, "Run: manage.py sync_roles", first, len(names))


def _refused(roles: Mapping[Any, Any]) -> Iterator[Finding]:
    """Yield the users for whom the server did not accept the latest role: it has another one, and they get 403 or 503."""
    unsent = SyncedRole.objects.filter(server=settings.SKYPILOT_URL, role="", lease="").order_by("name")
    current = roles_of(unsent.values_list("name", flat=True))
    names = [f"{name} ({roles[name]} instead of {role})" for name, role in current.items() if roles.get(name, role) != role]
    if names:
        what = "Users whose role the SkyPilot API server did not accept, so their requests are denied"
        fix = (
            "Read the server's reason in the audit log. It refuses to demote a user who owns clusters or jobs in a private "
            "workspace: end them, or add the user to allowed_users of the workspace."
        )
        yield Finding(Severity.ERROR, "skypilot.role-refused", what, fix, tuple(names[:NAMES]), len(names))


def _object(response: Reply) -> dict[str, Any]:
    """Return the JSON object of a response; an empty one where the response has none."""
    try:
        value = response.json()
    except UpstreamUnavailable:
        return {}
    return value if isinstance(value, dict) else {}
