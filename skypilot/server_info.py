"""The versions and public facts of the SkyPilot server, which `/api/health` reports to the CLI.

With SKYPILOT_URL they come from that server, cached for a few seconds; otherwise from the settings.
"""

import threading
import time
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings

from integrations.skypilot.client import UpstreamUnavailable, ask

_CACHE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 2.0  # between failed attempts: a server that hangs must not block a thread for each caller


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The fields of `/api/health` that describe the server."""

    api_version: str
    version: str
    commit: str
    version_on_disk: str | None
    latest_version: str | None = None
    telemetry_enabled: bool = False
    restrict_config_to_admins: bool = True


class _ServerInfoCache:
    """The last response of the server at `url`, until when it is valid, and whether the last attempt failed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.url = ""
        self.info: ServerInfo | None = None
        self.failed = False
        self.expires_at = 0.0  # in time.monotonic() seconds


cache = _ServerInfoCache()


def current() -> ServerInfo:
    """Return the server's facts, at most a few seconds old. Raises UpstreamUnavailable if the server does not respond."""
    if not settings.SKYPILOT_URL:
        return _configured()
    with cache.lock:  # one thread sends the request; the others wait and share its result
        if cache.url != settings.SKYPILOT_URL:
            cache.url, cache.info, cache.expires_at = settings.SKYPILOT_URL, None, 0.0
        if time.monotonic() >= cache.expires_at:
            try:
                cache.info, cache.failed = _fetched(), False
            except UpstreamUnavailable:
                cache.failed = True
            cache.expires_at = time.monotonic() + (_RETRY_SECONDS if cache.failed else _CACHE_SECONDS)
        if cache.failed or cache.info is None:
            raise UpstreamUnavailable("The SkyPilot API server does not respond.")
        return cache.info


def latest() -> ServerInfo:
    """Return the cached facts of any age, so that users and tokens can be managed while the server is down.

    Without any, the server is asked; if it does not respond, the facts come from the settings.
    """
    if cache.info is not None and cache.url == settings.SKYPILOT_URL:
        return cache.info
    try:
        return current()
    except UpstreamUnavailable:
        return _configured()


def _configured() -> ServerInfo:
    return ServerInfo(
        str(settings.SKYPILOT_API_VERSION),
        settings.SKYPILOT_VERSION,
        settings.SKYPILOT_COMMIT,
        version_on_disk=settings.SKYPILOT_VERSION,
    )


def _fetched() -> ServerInfo:
    """Return the server's facts. The request has version headers, without which some servers only report their status."""
    versions = {
        "X-SkyPilot-API-Version": str(settings.SKYPILOT_API_VERSION),
        "X-SkyPilot-Version": settings.SKYPILOT_VERSION,
    }
    reply = ask("GET", "/api/health", headers=versions)
    body = reply.json()
    if reply.status != 200 or not isinstance(body, dict):
        raise UpstreamUnavailable(f"The SkyPilot API server returned {reply.status} for its health.")
    api_version = str(body.get("api_version"))
    version, commit = body.get("version"), body.get("commit")
    if not (api_version.isascii() and api_version.isdigit() and isinstance(version, str) and isinstance(commit, str)):
        raise UpstreamUnavailable("The SkyPilot API server did not report its version.")
    return ServerInfo(
        api_version,
        version,
        commit,
        version_on_disk=_text(body.get("version_on_disk")),
        latest_version=_text(body.get("latest_version")),
        telemetry_enabled=body.get("telemetry_enabled") is True,
        restrict_config_to_admins=body.get("restrict_config_to_admins") is not False,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
