"""SkyPilot's own API server, where it is installed: what its clients wait for when it judges their tokens itself."""

import json
import urllib.request
from typing import Final

from benchmarks.load import HOST, Requests, template
from benchmarks.stage import Also, Contestant, Stage

# Of the GETs that need a credential this one costs it least; others ask a process of its own and are a tenth as fast.
CHEAPEST: Final = "/api/plugins"


def _token(port: int) -> str:
    """Return a new service-account token. The server believes whoever names a user, as it does unless told otherwise."""
    asked = urllib.request.Request(
        f"http://{HOST}:{port}/users/service-account-tokens",
        data=json.dumps({"token_name": "benchmark"}).encode(),
        headers={"Content-Type": "application/json", "X-Auth-Request-Email": "bob@example.com"},
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310 - our own server, on loopback
        return str(json.load(answer)["token"])


def bearer(stage: Stage) -> Contestant:
    """Return its cheapest authenticated GET with a service-account token."""
    port, metrics = stage.port(), stage.port()
    settings = {
        "HOME": str(stage.folder("skypilot")),
        "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
        "SKYPILOT_API_SERVER_LOCAL_PORT": str(port),
        "IS_SKYPILOT_SERVER": "true",
        "ENABLE_SERVICE_ACCOUNTS": "true",
    }
    command = [
        stage.tools.skypilot,
        "-m",
        "sky.server.server",
        "--host",
        HOST,
        "--port",
        str(port),
        "--metrics-port",
        str(metrics),
    ]
    program = stage.serve("skypilot", command, port, **settings)
    token = _token(port)
    request = template(CHEAPEST, ("Authorization", "Bearer @@"), asked=CHEAPEST)
    requests = Requests(stage.template("skypilot", request), stage.lines("skypilot", token), 1)
    return Contestant(port, requests, (program,), also=(Also(request.replace(b"@@", f"{token}x".encode()), (401, 403)),))
