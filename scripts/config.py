"""What `make run` was asked for: where everything listens, and what the upstream is.

From the environment: PORT (of SkyAuth, 8000), GATEWAY_PORT (8080), UPSTREAM (http://host:port) or ECHO_PORT (8081).
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
    """What the SkyPilot API server says of itself; "" and True while it does not answer."""

    version: str
    believes_header: bool


@dataclass(frozen=True, slots=True)
class Config:
    """Where everything is kept, and listens. `echo_port` is None when the upstream is not ours, `skypilot` unless it is one."""

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
        """SkyAuth's settings where the operator has none of their own."""
        if self.skypilot is None:
            return {"PUBLIC_URL": self.skyauth}
        # The gateway passes sign-in on to SkyAuth, so that browsers and the CLI know one address alone.
        return {"PUBLIC_URL": self.gateway, "AUTH_REDIRECT": "true", "SKYPILOT_URL": self.upstream}

    @property
    def logs(self) -> Path:
        return self.data / "log"

    @property
    def caddyfile(self) -> Path:
        return ROOT / "deploy" / ("proxies" if self.skypilot is None else "skypilot") / "caddy" / "Caddyfile"


def read_config() -> Config:
    """Return the config that the environment asks for. Raises LaunchError."""
    port, gateway_port, echo_port = _port("PORT", 8000), _port("GATEWAY_PORT", 8080), _port("ECHO_PORT", 8081)
    upstream = os.environ.get("UPSTREAM", "").strip().rstrip("/")
    data = (ROOT / os.environ.get("DATA_DIR", "var")).resolve()
    config = Config(data, port, gateway_port, upstream or f"http://{HOST}:{echo_port}", None if upstream else echo_port)
    if not _ORIGIN.match(config.upstream) or not _has_port(config.upstream):
        raise LaunchError(
            f"UPSTREAM={upstream!r} is not an address. Write scheme, host and port, as UPSTREAM=http://127.0.0.1:9000"
        )
    where = urlsplit(config.upstream)
    if where.hostname in _LOOPBACK and where.port in {port, gateway_port}:
        raise LaunchError(f"UPSTREAM={upstream} is one of our own addresses: the gateway would ask itself.")
    ours = [port, gateway_port, *([] if config.echo_port is None else [config.echo_port])]
    if len(set(ours)) < len(ours):
        raise LaunchError("PORT, GATEWAY_PORT and ECHO_PORT must be three different ports.")
    return config if config.echo_port is not None else replace(config, skypilot=recognise(config.upstream))


def _has_port(origin: str) -> bool:
    """Return whether the port of an address, if it names one, can be one."""
    try:
        return urlsplit(origin).port != 0
    except ValueError:
        return False


def recognise(upstream: str) -> SkyPilot | None:
    """Return what a SkyPilot API server at this address says of itself, or None when there is another API.

    One that does not answer yet is taken for one at SkyPilot's own port: the wrong gateway in front of it would be no protection.
    """
    said = _health(upstream)
    if said is None:
        return SkyPilot("", True) if urlsplit(upstream).port == SKYPILOT_PORT else None
    if not {"status", "api_version", "version", "commit"} <= said.keys():
        return None
    return SkyPilot(str(said["version"]), said.get("external_proxy_auth_enabled") is not False)


def _health(upstream: str) -> dict[str, object] | None:
    """Return the object that `/api/health` is answered with, empty when it is anything else, or None without an answer."""
    parts = urlsplit(upstream)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=5)
    try:
        # As a client does: to a mere probe a server says no more than that it is healthy.
        connection.request("GET", "/api/health", headers={"X-SkyPilot-API-Version": "62", "X-SkyPilot-Version": "0.14.1"})
        said = json.loads(connection.getresponse().read(1 << 20))
    except OSError:
        return None
    except (http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return said if isinstance(said, dict) else {}


def _port(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip() or str(default)
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        raise LaunchError(f"{name}={text!r} is not a port. Write a number from 1 to 65535, as {name}={default}")
    return int(text)
