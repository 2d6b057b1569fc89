"""How SkyAuth is served. The profile is part of the security model: raw headers reach the gate, and nothing rewrites them."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from gateway.protocol import ForwardAuthProtocol


def serve(*, host: str, port: int, workers: int = 1, reload: bool = False, log_level: str = "info") -> None:
    """Serve until told to stop. `reload` restarts on changed code, for development, with one worker."""
    with _shared_metrics(workers):
        uvicorn.run(
            "skyauth.asgi:application",
            host=host,
            port=port,
            workers=None if reload else workers,
            reload=reload,
            log_level=log_level,
            log_config=None,  # its lines are written as ours are
            http=ForwardAuthProtocol,
            loop="uvloop",
            ws="none",
            lifespan="off",
            interface="asgi3",
            proxy_headers=False,  # uvicorn's own rewriting would replace the socket's peer by what a header says
            server_header=False,
            access_log=False,  # paths and addresses are the proxy's to log; decisions are in the audit log
            timeout_keep_alive=75,  # longer than nginx and Caddy keep idle connections to us
            timeout_graceful_shutdown=10,
        )


@contextmanager
def _shared_metrics(workers: int) -> Iterator[None]:
    """Give several workers a directory in which they share their metrics: a scrape reaches one of them, and tells of all.

    It is a new one each time, for counts of an earlier server would be told as this one's.
    """
    if workers == 1:
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        yield
        return
    with tempfile.TemporaryDirectory(prefix="skyauth-metrics-") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        yield
