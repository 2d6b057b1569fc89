"""Runs the server. Its options are part of the security model: raw headers reach the header filter, and nothing rewrites them."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any, Final

from django.db import connection
from uvicorn.supervisors import ChangeReload

from core.server_lock import held
from gateway.protocol import ForwardAuthProtocol
from skyauth import listeners
from skyauth.certificates import CertificateFiles
from skyauth.server_process import GRACE, STARTUP_FAILURE, Config, Server
from skyauth.workers import Supervisor

KEEP_ALIVE: Final = 130  # seconds; longer than by default Caddy (120) and Traefik (90) keep idle connections
DRAIN: Final = 5  # seconds, by default
UNIX_MODE: Final = 0o660

logger = logging.getLogger("skyauth.server")


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen: at `unix`, a path with the mode of its file, else at host and port. Sockets that are passed go first."""

    host: str | None = None
    port: int | None = None
    unix: Path | None = None
    unix_mode: int = UNIX_MODE

    def open(self, stack: ExitStack) -> tuple[list[socket], bool]:
        """Return the sockets, and whether a service manager passed them and keeps them open. Raises ListenError."""
        if passed := listeners.inherited():
            if self.host or self.port or self.unix:
                raise listeners.ListenError("The service manager passes a socket. Remove --host, --port and --unix.")
            return passed, True
        if self.unix is not None:
            return stack.enter_context(listeners.unix(self.unix, self.unix_mode)), False
        return listeners.tcp(self.host or "127.0.0.1", self.port or 8000), False


def profile(log_level: str) -> dict[str, Any]:
    """Return the options of uvicorn that are the same for every server."""
    return {
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
        "timeout_graceful_shutdown": GRACE,
    }


def serve(
    *,
    listen: Listen,
    workers: int = 1,
    reload: bool = False,
    drain: float = DRAIN,
    certificate: CertificateFiles | None = None,
    log_level: str = "info",
) -> None:
    """Serve until the process is stopped. `reload` restarts the server when code changes, for development, with one worker.

    Raises ListenError, CertificateError, BlockingIOError during a restore, and SystemExit if the server did not start.
    """
    if certificate is not None:
        certificate.context()  # before a socket is opened
    with ExitStack() as stack:
        if connection.vendor == "sqlite":
            stack.enter_context(held(Path(connection.settings_dict["NAME"]), alone=False))
        sockets, passed = listen.open(stack)
        for listener in sockets:
            logger.info("Listening on %s", listeners.describe(listener, tls=certificate is not None))
        stack.enter_context(_shared_metrics(workers))
        config = Config(drain=drain, passed=passed, certificate=certificate, reload=reload, **profile(log_level))
        if workers > 1:
            Supervisor(config, sockets, workers).run()
        elif reload:
            ChangeReload(config, target=Server(config).run, sockets=sockets).run()
        else:
            server = Server(config)
            server.run(sockets=sockets)
            if not server.started:
                sys.exit(STARTUP_FAILURE)


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
