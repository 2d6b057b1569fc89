"""The version headers of SkyPilot clients and servers, and the check that a client is not too old."""

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
class ClientVersion:
    """The versions that a client sends; `api_version` is None if it is not a number."""

    api_version: int | None
    version: str


class ClientOutdated(Exception):
    """Ends the request of a client that is too old (400). `sky` prints the text, with the colours of SkyPilot."""


def client_version(request: HttpRequest) -> ClientVersion | None:
    """Return the versions of the client, or None if a header is missing, as in the requests of probes and browsers."""
    api_version, version = request.headers.get(API_VERSION), request.headers.get(VERSION)
    if api_version is None or version is None:
        return None
    return ClientVersion(int(api_version) if _NUMBER.match(api_version) else None, version)


def require_supported(client: ClientVersion | None) -> None:
    """Raise ClientOutdated for a client that is too old, or whose API version is not a number."""
    if client is None or (client.api_version is not None and client.api_version >= OLDEST_API_VERSION):
        return
    local = server_info.latest().version
    raise ClientOutdated(
        f"\x1b[33mYour SkyPilot client version is too old:{client.version}\n\x1b[0m"
        f"The server is running on {local} and the minimum compatible version is {OLDEST_VERSION}.\n"
        f"Upgrade your client with:\n\x1b[33m{_install(local)}\x1b[0m"
    )


def add_headers(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Return the response, with the server's versions if the client sent its own."""
    if client_version(request) is not None:
        info = server_info.latest()
        response[API_VERSION] = info.api_version
        response[VERSION] = info.version
    return response


def _install(version: str) -> str:
    package = "skypilot-nightly" if "dev" in version else "skypilot"
    return f'pip install -U "{package}=={version}"'
