"""The configuration of `make run`: the ports, and the upstream.

Environment variables: PORT (of SkyAuth, 8000), GATEWAY_PORT (8080), UPSTREAM (http://host:port), ECHO_PORT (demo API, 8081).
"""

import http.client
import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from processes import HOST, ROOT, LaunchError

SKYPILOT_PORT: Final = 46580
_LOOPBACK: Final = (HOST, "localhost", "::1")
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?\Z")


@dataclass(frozen=True, slots=True)
class SkyPilot:
    """The version of the SkyPilot API server, and whether it trusts X-Auth-Request-Email; "" and True without a response."""

    version: str
    trusts_header: bool


@dataclass(frozen=True, slots=True)
class Config:
    """Directories and addresses. `echo_port` is None with an UPSTREAM; `skypilot` is None unless that is a SkyPilot server."""

    data: Path
    port: int
    gateway_port: int
    upstream: str
    echo_port: int | None
    skypilot: "SkyPilot | None" = None

    @property
    def skyauth(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def gateway(self) -> str:
        return f"http://{HOST}:{self.gateway_port}"

    @property
    def settings(self) -> dict[str, str]:
        """The settings of SkyAuth that the operator has not set."""
        if self.skypilot is None:
            return {"PUBLIC_URL": self.skyauth, "RBAC_DEFAULT_ROLE": "first-admin"}
        # The gateway forwards sign-in pages to SkyAuth, so that browsers and the CLI use a single address.
        return {
            "PUBLIC_URL": self.gateway,
            "AUTH_REDIRECT": "true",
            "SKYPILOT_URL": self.upstream,
            "RBAC_DEFAULT_ROLE": "first-admin",
        }

    @property
    def logs(self) -> Path:
        return self.data / "log"

    @property
    def caddyfile(self) -> Path:
        return ROOT / "deploy" / ("proxies" if self.skypilot is None else "skypilot") / "caddy" / "Caddyfile"


def read_config() -> Config:
    """Return the configuration from the environment. Raises LaunchError."""
    port, gateway_port, echo_port = _port("PORT", 8000), _port("GATEWAY_PORT", 8080), _port("ECHO_PORT", 8081)
    upstream = os.environ.get("UPSTREAM", "").strip().rstrip("/")
    data = (ROOT / os.environ.get("DATA_DIR", "var")).resolve()
    config = Config(data, port, gateway_port, upstream or f"http://{HOST}:{echo_port}", None if upstream else echo_port)
    if not _ORIGIN.match(config.upstream) or not _has_port(config.upstream):
        raise LaunchError(
            f"UPSTREAM={upstream!r} is not an address. Write scheme, host and port, for example UPSTREAM=http://127.0.0.1:9000"
        )
    address = urlsplit(config.upstream)
    if address.hostname in _LOOPBACK and address.port in {port, gateway_port}:
        raise LaunchError(f"UPSTREAM={upstream} is the address of SkyAuth or of the gateway. Set it to the address of your API.")
    ours = [port, gateway_port, *([] if config.echo_port is None else [config.echo_port])]
    if len(set(ours)) < len(ours):
        raise LaunchError("PORT, GATEWAY_PORT and ECHO_PORT must be three different ports.")
    return config if config.echo_port is not None else replace(config, skypilot=detect_skypilot(config.upstream))


def _has_port(origin: str) -> bool:
    """Return whether the port of an address, if it has one, is valid."""
    try:
        return urlsplit(origin).port != 0
    except ValueError:
        return False


def detect_skypilot(upstream: str) -> SkyPilot | None:
    """Return the properties of the SkyPilot API server at this address, or None for another API.

    Without a response, the default port of SkyPilot decides: the other gateway would not protect a SkyPilot server.
    """
    health = _health(upstream)
    if health is None:
        return SkyPilot("", True) if urlsplit(upstream).port == SKYPILOT_PORT else None
    if not {"status", "api_version", "version", "commit"} <= health.keys():
        return None
    return SkyPilot(str(health["version"]), health.get("external_proxy_auth_enabled") is not False)


def _health(upstream: str) -> dict[str, object] | None:
    """Return the JSON object of `/api/health`, an empty one for another response, or None without a response."""
    parts = urlsplit(upstream)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=5)
    try:
        # The headers of a client: without them the server returns only that it is healthy.
        connection.request("GET", "/api/health", headers={"X-SkyPilot-API-Version": "62", "X-SkyPilot-Version": "0.14.1"})
        health = json.loads(connection.getresponse().read(1 << 20))
    except OSError:
        return None
    except (http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return health if isinstance(health, dict) else {}


def _port(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip() or str(default)
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        raise LaunchError(f"{name}={text!r} is not a port. Write a number from 1 to 65535, for example {name}={default}")
    return int(text)
