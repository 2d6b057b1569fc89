"""Django system checks E001 to E031: SkyAuth does not start with an unsafe or contradictory configuration.

Each error says which setting is wrong and what to write. Warnings are in doctor/deployment.py.
"""

import ipaddress
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.db import DatabaseError, connection

from accounts import shared_credential
from accounts.models import User
from authn import jwt_keys
from authn.provider_keys import ASYMMETRIC
from authn.proxy_headers import READ_HEADERS, parse_networks
from rbac.models import Role
from rbac.permissions import FIRST_ADMIN

_HEADER = re.compile(r"[A-Za-z0-9\-]+\Z")
# Headers that SkyAuth reads for something else. The header filter removes an identity header from the request.
_TAKEN = frozenset(name.decode() for name in READ_HEADERS) | {
    "accept", "authorization", "connection", "content-length", "content-type", "cookie", "expect", "forwarded", "from", "host",
    "origin", "referer", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site",
    "sec-websocket-key", "sec-websocket-version", "transfer-encoding",
    "upgrade", "user-agent", "x-request-id", "x-skypilot-auth-mode",
}  # fmt: skip
# Not accepted: hashes that are broken quickly if AUTH_STRING is stolen, and hashes that take too long to verify (promise 20).
_ACCEPTED_HASH = re.compile(r"(\$2[aby]\$(0[4-9]|1[0-4])\$.{53}|\$apr1\$.+|\$[56]\$(rounds=\d{4,6}\$)?(?!rounds=).+)\Z")


def register() -> None:
    for check in (trusted_proxies, proxy_header, assertions, auth_string, token_days, assertion_keys, reachable_server):
        checks.register(check, checks.Tags.security)
    for check in (default_role, shared_names):
        checks.register(check, checks.Tags.database)


def _error(number: int, message: str, hint: str) -> Error:
    return Error(message, hint=hint, id=f"skyauth.E{number:03}")


def trusted_proxies(**kwargs: Any) -> list[CheckMessage]:
    """E001, E002: TRUSTED_PROXIES is a list of networks, and none of them contains every address."""
    try:
        networks = parse_networks(settings.TRUSTED_PROXIES)
    except ValueError as error:
        return [
            _error(
                1, f"TRUSTED_PROXIES: {error}.", "Write addresses or networks, for example TRUSTED_PROXIES=127.0.0.1,10.0.0.0/8"
            )
        ]
    if any(network.prefixlen == 0 for network in networks):
        return [_error(2, "TRUSTED_PROXIES trusts every address.", "List only the addresses of your proxies.")]
    return []


def proxy_header(**kwargs: Any) -> list[CheckMessage]:
    """E003, E004: sign-in by header needs a trusted proxy and an unambiguous header name."""
    if settings.AUTH_USER_HEADER_FORMAT == "off":
        return []
    messages: list[CheckMessage] = []
    if not settings.TRUSTED_PROXIES:
        messages.append(
            _error(
                3,
                "AUTH_USER_HEADER_FORMAT is on, but TRUSTED_PROXIES is empty, so no proxy can name the user.",
                "Set TRUSTED_PROXIES to the addresses of your proxies.",
            )
        )
    for name in ("AUTH_USER_HEADER", "AUTH_GROUPS_HEADER"):
        value = getattr(settings, name)
        if (value or name == "AUTH_USER_HEADER") and (not _HEADER.match(value) or value.lower() in _TAKEN):
            messages.append(
                _error(
                    4,
                    f"{name}={value!r} cannot be used as the name of a header.",
                    "Use letters, digits and hyphens, as in X-Auth-Request-Email.",
                )
            )
    if settings.AUTH_USER_HEADER and settings.AUTH_USER_HEADER.lower() == settings.AUTH_GROUPS_HEADER.lower():
        messages.append(_error(4, "AUTH_USER_HEADER and AUTH_GROUPS_HEADER are the same header.", "Use two different headers."))
    return messages


def assertions(**kwargs: Any) -> list[CheckMessage]:
    """E005 to E008: signed assertions need keys, issuer, audience and asymmetric algorithms."""
    if settings.AUTH_USER_HEADER_FORMAT != "jwt":
        return []
    messages: list[CheckMessage] = [
        _error(5, f"AUTH_USER_HEADER_FORMAT=jwt needs {name}.", f"Set {name}; docs/settings.md describes it.")
        for name in ("AUTH_JWT_JWKS", "AUTH_JWT_ISSUER", "AUTH_JWT_AUDIENCE", "AUTH_JWT_ALGORITHMS")
        if not getattr(settings, name)
    ]
    if unknown := sorted(set(settings.AUTH_JWT_ALGORITHMS) - ASYMMETRIC):
        messages.append(
            _error(
                6,
                f"AUTH_JWT_ALGORITHMS: {', '.join(unknown)} is not accepted.",
                f"Choose from: {', '.join(sorted(ASYMMETRIC))}.",
            )
        )
    source = settings.AUTH_JWT_JWKS
    if source.startswith("http://") and not is_loopback(urlsplit(source).hostname or ""):
        messages.append(
            _error(
                7,
                "AUTH_JWT_JWKS would be fetched without TLS.",
                "Use an https URL. An attacker who changes the keys in transit could act as any user.",
            )
        )
    elif source and not source.startswith(("http://", "https://")) and not Path(source).is_file():
        messages.append(
            _error(
                8,
                f"AUTH_JWT_JWKS: the file {source!r} does not exist.",
                "Set it to an https URL or to the path of a JSON Web Key Set (RFC 7517).",
            )
        )
    return messages


def auth_string(**kwargs: Any) -> list[CheckMessage]:
    """E009: AUTH_STRING contains htpasswd lines, with hashes that are neither too weak nor too slow."""
    hint = "Create a line with: htpasswd -nB NAME. In a .env or compose file, put it in single quotes or write $$ for each $."
    if not settings.AUTH_STRING:
        return []
    try:
        lines = shared_credential.htpasswd(settings.AUTH_STRING)
        users = list(lines.users())
    except ValueError as error:
        return [_error(9, f"AUTH_STRING: {error}", hint)]
    if not users:
        return [_error(9, "AUTH_STRING contains no htpasswd line.", hint)]
    bad = [user for user in users if not _ACCEPTED_HASH.match(shared_credential.shared_hash(user) or "")]
    return [_error(9, f"AUTH_STRING: the hash of {user!r} is too weak, too slow or not a supported hash.", hint) for user in bad]


def token_days(**kwargs: Any) -> list[CheckMessage]:
    """E010: the default lifetime of a token is at most the maximum."""
    if settings.TOKEN_MAX_DAYS and settings.TOKEN_DEFAULT_DAYS > settings.TOKEN_MAX_DAYS:
        return [
            _error(
                10,
                "TOKEN_DEFAULT_DAYS is greater than TOKEN_MAX_DAYS.",
                f"Set TOKEN_DEFAULT_DAYS to {settings.TOKEN_MAX_DAYS} or less.",
            )
        ]
    return []


def assertion_keys(**kwargs: Any) -> list[CheckMessage]:
    """E020, E021: ASSERTION_KEYS lists usable private keys that no other user of the machine can read, each once."""
    messages: list[CheckMessage] = []
    files: dict[str, Path] = {}
    for path in settings.ASSERTION_KEYS:
        try:
            kid = jwt_keys.read(path).kid
        except jwt_keys.Unusable as error:
            messages.append(_error(20, f"ASSERTION_KEYS: {error}", error.todo))
            continue
        if kid in files:
            messages.append(_error(21, f"ASSERTION_KEYS: {files[kid]} and {path} are the same key.", "List each key once."))
        files[kid] = path
    return messages


def reachable_server(**kwargs: Any) -> list[CheckMessage]:
    """E030, E031: a server that other machines reach shows no debug pages, and answers for its own hosts only."""
    if is_loopback(urlsplit(settings.PUBLIC_URL).hostname or "") and not settings.SECURE_COOKIES:
        return []
    messages: list[CheckMessage] = []
    if settings.DEBUG:
        messages.append(
            _error(
                30,
                "DEBUG is on, but PUBLIC_URL can be reached by others. Debug pages show settings and code.",
                "Remove DEBUG, or set PUBLIC_URL=http://127.0.0.1:8000 on your own machine.",
            )
        )
    if "*" in settings.ALLOWED_HOSTS:
        messages.append(
            _error(
                31,
                "ALLOWED_HOSTS contains *, so SkyAuth would answer for every host name.",
                "List the host names that your proxies send. The host of PUBLIC_URL is always accepted.",
            )
        )
    return messages


def default_role(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """E011: RBAC_DEFAULT_ROLE is the name of a role. `migrate`, `serve` and `check --database default` run this check."""
    name = settings.RBAC_DEFAULT_ROLE
    if name == FIRST_ADMIN or not databases:
        return []
    try:
        if Role._meta.db_table not in connection.introspection.table_names():
            return []
        names = sorted(Role.objects.values_list("name", flat=True))
    except DatabaseError:
        return []  # database.unreachable reports it
    if not names or name in names:
        return []
    return [_error(11, f"RBAC_DEFAULT_ROLE={name!r} is not a role.", f"Choose one of: {', '.join([FIRST_ADMIN, *names])}.")]


def shared_names(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """E012: no name in AUTH_STRING is a username, because it would be authenticated in the user's place."""
    if not settings.AUTH_STRING or not databases:
        return []
    try:
        names = {name.lower() for name in shared_credential.htpasswd(settings.AUTH_STRING).users()}
        taken = sorted(User.objects.filter(username__in=names).values_list("username", flat=True))
    except (DatabaseError, ValueError):
        return []  # database.unreachable or E009 reports it
    return [
        _error(12, f"AUTH_STRING: {name!r} is also the name of a user.", "Give the shared credential another name.")
        for name in taken
    ]


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
