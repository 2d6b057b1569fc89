"""The least that an ASGI application can do, in the server profile of `skyauth.server`: 200 without content, whatever is asked.

`python -m benchmarks.sites.bare_asgi PORT`. The HTTP class is uvicorn's own, without SkyAuth's bounds.
"""

import sys
from typing import Any

import uvicorn

from skyauth.server import KEEP_ALIVE

HEADERS = [(b"content-length", b"0")]


async def application(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 - ASGI's signature
    """Answer 200."""
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b""})


def serve(*, port: int) -> None:
    """Serve until told to stop. tests/benchmarks compares the flags with those of `skyauth.server`."""
    uvicorn.run(
        application,
        host="127.0.0.1",
        port=port,
        workers=1,
        reload=False,
        log_config=None,
        log_level="info",
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    serve(port=int(sys.argv[1]))
