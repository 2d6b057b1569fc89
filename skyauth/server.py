"""How SkyAuth is served. The profile is part of the security model: raw headers reach the gate, and nothing rewrites them."""

import uvicorn

from skyauth.line import LineProtocol


def serve(*, host: str, port: int, workers: int = 1, reload: bool = False, log_level: str = "info") -> None:
    """Serve until told to stop. `reload` restarts on changed code, for development, with one worker."""
    uvicorn.run(
        "skyauth.asgi:application",
        host=host,
        port=port,
        workers=None if reload else workers,
        reload=reload,
        log_level=log_level,
        http=LineProtocol,
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
