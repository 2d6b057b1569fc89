"""SkyPilot's own API server, where it is installed: what its clients wait for when it judges their tokens itself."""

import json
import urllib.request
from typing import Final

from benchmarks.harness import Also, Harness, Subject
from benchmarks.load import HOST, Requests, template

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


def bearer(harness: Harness) -> Subject:
    """Return its cheapest authenticated GET with a service-account token."""
    port, metrics = harness.port(), harness.port()
    settings = {
        "HOME": str(harness.folder("skypilot")),
        "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
        "SKYPILOT_API_SERVER_LOCAL_PORT": str(port),
        "IS_SKYPILOT_SERVER": "true",
        "ENABLE_SERVICE_ACCOUNTS": "true",
    }
    command = [
        harness.tools.skypilot,
        "-m",
        "sky.server.server",
        "--host",
        HOST,
        "--port",
        str(port),
        "--metrics-port",
        str(metrics),
    ]
    program = harness.serve("skypilot", command, port, **settings)
    token = _token(port)
    request = template(CHEAPEST, ("Authorization", "Bearer @@"), asked=CHEAPEST)
    requests = Requests(harness.template("skypilot", request), harness.lines("skypilot", token), 1)
    return Subject(port, requests, (program,), also=(Also(request.replace(b"@@", f"{token}x".encode()), (401, 403)),))
