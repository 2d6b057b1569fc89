"""Checks of settings that work, but that a production installation should not have: W101 to W108.

`manage.py check --deploy` shows them too.
"""

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Warning  # noqa: A004 - Django's name
from django.db import connection

from authn.proxy_headers import parse_networks
from doctor.finding import Audience, Check, Finding, Severity
from doctor.settings_checks import is_loopback, trusted_proxies
from rbac.permissions import ADMIN


def deployed(**kwargs: Any) -> list[CheckMessage]:
    """Return the warnings for `manage.py check --deploy`."""
    return [Warning(found.what, hint=found.todo, id=found.code) for check in CHECKS for found in check.find(check)]


def _admin_by_default(check: Check) -> Iterable[Finding]:
    if settings.RBAC_DEFAULT_ROLE == ADMIN:
        yield check.finding(
            "Every user who signs in for the first time becomes an admin.",
            "Set RBAC_DEFAULT_ROLE=first-admin or RBAC_DEFAULT_ROLE=user.",
        )


def _no_trusted_proxy(check: Check) -> Iterable[Finding]:
    if not settings.TRUSTED_PROXIES:
        yield check.finding(
            "TRUSTED_PROXIES is empty, so /authz/verify refuses every request.",
            "Set TRUSTED_PROXIES to the addresses of your proxies.",
        )


def _plain_http(check: Check) -> Iterable[Finding]:
    if not settings.SECURE_COOKIES and not is_loopback(urlsplit(settings.PUBLIC_URL).hostname or ""):
        yield check.finding(
            "PUBLIC_URL is not https, so passwords and session cookies are sent unencrypted.",
            "Terminate TLS in front of SkyAuth and set PUBLIC_URL=https://...",
        )


def _many_trusted_addresses(check: Check) -> Iterable[Finding]:
    if trusted_proxies():
        return  # E001 or E002
    if any(network.num_addresses > 2**16 for network in parse_networks(settings.TRUSTED_PROXIES)):
        yield check.finding(
            "TRUSTED_PROXIES trusts more than 65,536 addresses.",
            "A client at any of them can act as any user. List only your proxies.",
        )


def _shared_password(check: Check) -> Iterable[Finding]:
    if settings.AUTH_STRING:
        yield check.finding(
            "The shared password (AUTH_STRING) gives access to the protected APIs without a role and without an identity.",
            "Give each user and service account credentials of their own.",
        )


def _unused_settings(check: Check) -> Iterable[Finding]:
    for name, reason in settings.UNUSED_SETTINGS.items():
        yield check.finding(f"{name} is set, but it is no longer used. {reason}", f"Remove {name}.")


_OF_JWT: Final = (
    "AUTH_JWT_JWKS",
    "AUTH_JWT_ISSUER",
    "AUTH_JWT_AUDIENCE",
    "AUTH_JWT_ALGORITHMS",
    "AUTH_JWT_CLAIM",
    "AUTH_JWT_GROUPS_CLAIM",
    "AUTH_JWT_MAX_HOURS",
)


def _settings_without_effect(check: Check) -> Iterable[Finding]:
    """Yield the settings that are set, but that another setting switches off."""
    format_ = settings.AUTH_USER_HEADER_FORMAT
    no_groups = format_ == "plaintext" and not settings.AUTH_GROUPS_HEADER
    for names, is_off, other in (
        (("AUTH_USER_HEADER", "AUTH_USER_PREFIX"), format_ == "off", "AUTH_USER_HEADER_FORMAT is off"),
        (("AUTH_GROUPS_HEADER", "AUTH_GROUPS_SEPARATOR"), format_ == "off", "AUTH_USER_HEADER_FORMAT is off"),
        (("AUTH_GROUPS_HEADER", "AUTH_GROUPS_SEPARATOR"), format_ == "jwt", "the groups of a JWT are in AUTH_JWT_GROUPS_CLAIM"),
        (("AUTH_GROUPS_SEPARATOR",), no_groups, "AUTH_GROUPS_HEADER is empty"),
        (_OF_JWT, format_ != "jwt", "AUTH_USER_HEADER_FORMAT is not jwt"),
        (("ASSERTION_AUDIENCE",), not settings.ASSERTION_KEYS, "ASSERTION_KEYS is empty"),
        (("DATABASE_POOL_SIZE",), connection.vendor == "sqlite", "DATABASE_URL names SQLite"),
        (("AUTH_STRING",), not settings.AUTH_BASIC, "AUTH_BASIC is false"),
        (("SKYPILOT_SHARED_BASIC",), not settings.AUTH_STRING, "AUTH_STRING is empty"),
    ):
        if is_off and (unused := [name for name in names if name in settings.CHANGED_SETTINGS]):
            verb = "has" if len(unused) == 1 else "have"
            yield check.finding(
                f"{', '.join(unused)} {verb} no effect, because {other}.", "Change the one setting, or remove the other."
            )


_READERS: Final = frozenset({Audience.OPERATOR, Audience.ADMIN})
CHECKS: Final = tuple(
    Check(f"skyauth.W{number}", Severity.WARNING, _READERS, find, needs_database=False)
    for number, find in (
        (101, _admin_by_default),
        (102, _no_trusted_proxy),
        (103, _plain_http),
        (104, _many_trusted_addresses),
        (106, _shared_password),
        (107, _unused_settings),
        (108, _settings_without_effect),
    )
)
