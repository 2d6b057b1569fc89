"""Runs the server. Its options are part of the security model: raw headers reach the header filter, and nothing rewrites them."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from gateway.protocol import ForwardAuthProtocol


def serve(*, host: str, port: int, workers: int = 1, reload: bool = False, log_level: str = "info") -> None:
    """Serve until the process is stopped. `reload` restarts the server when code changes, for development, with one worker."""
    with _shared_metrics(workers):
        uvicorn.run(
            "skyauth.asgi:application",
            host=host,
            port=port,
            workers=None if reload else workers,
            reload=reload,
            log_level=log_level,
            log_config=None,  # uvicorn logs through SkyAuth's own configuration
            http=ForwardAuthProtocol,
            loop="uvloop",
            ws="none",
            lifespan="on",  # the last touches are written at shutdown
            interface="asgi3",
            proxy_headers=False,  # uvicorn would replace the socket's peer by the value of a header
            server_header=False,
            access_log=False,  # the proxy logs paths and addresses; the audit log has the decisions
            timeout_keep_alive=75,  # seconds; longer than nginx and Caddy keep idle connections to an upstream
            timeout_graceful_shutdown=10,
        )


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
