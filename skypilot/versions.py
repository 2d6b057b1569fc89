"""The version headers that a SkyPilot client and server exchange, and whether a client is too old to be understood."""

import re
from dataclasses import dataclass
from typing import Final

from django.http import HttpRequest, HttpResponse

from skypilot import server_info

API_VERSION: Final = "X-SkyPilot-API-Version"
VERSION: Final = "X-SkyPilot-Version"
OLDEST_API_VERSION: Final = 24
OLDEST_VERSION: Final = "0.11.0"
_NUMBER: Final = re.compile(r"\s*[+-]?[0-9]{1,9}\s*\Z")


@dataclass(frozen=True, slots=True)
class Client:
    """What a client says that it is; `api_version` is None for one that is no number."""

    api_version: int | None
    version: str


class Outdated(Exception):
    """Ends the request of a client that is too old (400); the text, coloured as SkyPilot does, is what `sky` prints."""


def client_of(request: HttpRequest) -> Client | None:
    """Return the client's versions, or None unless the request names both: then a probe or a browser asks."""
    api_version, version = request.headers.get(API_VERSION), request.headers.get(VERSION)
    if api_version is None or version is None:
        return None
    return Client(int(api_version) if _NUMBER.match(api_version) else None, version)


def require(client: Client | None) -> None:
    """Raise Outdated for a client that is too old to be understood, or that says nothing sensible."""
    if client is None or (client.api_version is not None and client.api_version >= OLDEST_API_VERSION):
        return
    local = server_info.latest().version
    raise Outdated(
        f"\x1b[33mYour SkyPilot client version is too old:{client.version}\n\x1b[0m"
        f"The server is running on {local} and the minimum compatible version is {OLDEST_VERSION}.\n"
        f"Upgrade your client with:\n\x1b[33m{_install(local)}\x1b[0m"
    )


def tell(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Return the response with the server's versions, for a client that tells its own."""
    if client_of(request) is not None:
        known = server_info.latest()
        response[API_VERSION] = known.api_version
        response[VERSION] = known.version
    return response


def _install(version: str) -> str:
    package = "skypilot-nightly" if "dev" in version else "skypilot"
    return f'pip install -U "{package}=={version}"'
