"""Runs the server. Its options are part of the security model: raw headers reach the header filter, and nothing rewrites them."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import uvicorn

from gateway.protocol import ForwardAuthProtocol

_APPLICATION: Final = "skyauth.asgi:application"
KEEP_ALIVE: Final = 130  # seconds; longer than by default Caddy (120) and Traefik (90) keep idle connections
_STARTUP_FAILURE: Final = 3  # an exit code, the same as uvicorn's


def serve(*, host: str, port: int, workers: int = 1, reload: bool = False, log_level: str = "info") -> None:
    """Serve until the process is stopped. `reload` restarts the server when code changes, for development, with one worker."""
    profile: dict[str, Any] = {
        "host": host,
        "port": port,
        "workers": None if reload else workers,
        "reload": reload,
        "log_level": log_level,
        "log_config": None,  # uvicorn logs through SkyAuth's own configuration
        "http": ForwardAuthProtocol,
        "loop": "uvloop",
        "ws": "none",
        "lifespan": "on",  # the last touches are written at shutdown
        "interface": "asgi3",
        "proxy_headers": False,  # uvicorn would replace the socket's peer by the value of a header
        "server_header": False,
        "access_log": False,  # the proxy logs paths and addresses; the audit log has the decisions
        "timeout_keep_alive": KEEP_ALIVE,
        "timeout_graceful_shutdown": 10,
    }
    with _shared_metrics(workers):
        if ":" in host and workers == 1 and not reload:
            _serve_ipv6(profile)
        else:
            uvicorn.run(_APPLICATION, **profile)


def _serve_ipv6(profile: dict[str, Any]) -> None:
    """Serve with one worker on the socket that uvicorn opens for several: `::` is then IPv4 too, where the kernel can.

    With one worker, uvicorn leaves the socket to the event loop, which makes it IPv6-only.
    """
    config = uvicorn.Config(_APPLICATION, **profile)
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):
        server.run(sockets=[config.bind_socket()])
    if not server.started:
        sys.exit(_STARTUP_FAILURE)


@contextmanager
def _shared_metrics(workers: int) -> Iterator[None]:
    """Give several workers a directory for their metrics, so that a scrape of one of them returns those of all.

    The directory is new each time. Otherwise the counts of an earlier server would be added to this one's.
    """
    if workers == 1:
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        yield
        return
    with tempfile.TemporaryDirectory(prefix="skyauth-metrics-") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        yield
