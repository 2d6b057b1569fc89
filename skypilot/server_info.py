"""What SkyAuth says of the SkyPilot server: its versions, by which the CLI decides, and a few harmless facts.

With SKYPILOT_URL it is what the server there says of itself, asked again after a few seconds; otherwise the settings say it.
"""

import threading
import time
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings

from integrations.skypilot.client import UpstreamUnavailable, ask

_FRESH_SECONDS: Final = 5.0
_FAILED_SECONDS: Final = 2.0  # so long nobody asks again: a server that hangs must not hold a thread for every caller


@dataclass(frozen=True, slots=True)
class Advertised:
    """A server's account of itself, named as `/api/health` names it."""

    api_version: str
    version: str
    commit: str
    version_on_disk: str | None
    latest_version: str | None = None
    telemetry_enabled: bool = False
    restrict_config_to_admins: bool = True


class _Memory:
    """The last account, when it is to be asked for again, and whether the last try failed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.source = ""
        self.last: Advertised | None = None
        self.failed = False
        self.until = 0.0


memory = _Memory()


def current() -> Advertised:
    """Return what there is to say now. Raises UpstreamUnavailable when the server does not say it."""
    if not settings.SKYPILOT_URL:
        return _configured()
    with memory.lock:  # one asks, the others hear what it heard
        if memory.source != settings.SKYPILOT_URL:
            memory.source, memory.last, memory.until = settings.SKYPILOT_URL, None, 0.0
        if time.monotonic() >= memory.until:
            try:
                memory.last, memory.failed = _asked(), False
            except UpstreamUnavailable:
                memory.failed = True
            memory.until = time.monotonic() + (_FAILED_SECONDS if memory.failed else _FRESH_SECONDS)
        if memory.failed or memory.last is None:
            raise UpstreamUnavailable("The SkyPilot API server does not answer.")
        return memory.last


def latest() -> Advertised:
    """Return what was said last, and ask only where nothing was: people and tokens can be managed while the server is away."""
    if memory.last is not None and memory.source == settings.SKYPILOT_URL:
        return memory.last
    try:
        return current()
    except UpstreamUnavailable:
        return _configured()


def _configured() -> Advertised:
    return Advertised(
        str(settings.SKYPILOT_API_VERSION),
        settings.SKYPILOT_VERSION,
        settings.SKYPILOT_COMMIT,
        version_on_disk=settings.SKYPILOT_VERSION,
    )


def _asked() -> Advertised:
    """Return the server's own account, asked for as a client does: to a mere probe some servers say no more than "healthy"."""
    versions = {
        "X-SkyPilot-API-Version": str(settings.SKYPILOT_API_VERSION),
        "X-SkyPilot-Version": settings.SKYPILOT_VERSION,
    }
    reply = ask("GET", "/api/health", headers=versions)
    body = reply.json()
    if reply.status != 200 or not isinstance(body, dict):
        raise UpstreamUnavailable(f"The SkyPilot API server answered {reply.status} when asked for its health.")
    api_version = str(body.get("api_version"))
    version, commit = body.get("version"), body.get("commit")
    if not (api_version.isascii() and api_version.isdigit() and isinstance(version, str) and isinstance(commit, str)):
        raise UpstreamUnavailable("The SkyPilot API server does not say which version it is.")
    return Advertised(
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
