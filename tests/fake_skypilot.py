"""A SkyPilot API server that responds as a test says: it hangs, fails, refuses, and returns wrong values.

The real one is in tests/e2e/skypilot.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from accounts.identifiers import user_uid
from tests.http_client import HOST


class Server(ThreadingHTTPServer):
    """Stores roles as the real server does; `answers` replaces its response to a path.

    The users in `owners` own clusters in a private workspace, so it refuses to demote and to delete them.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Handler)
        self.roles: dict[str, str] = {}
        self.owners: set[str] = set()
        self.requests: list[str] = []
        self.delay = 0.0
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.meanwhile: Callable[[], object] = lambda: None

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.headers["X-Auth-Request-Email"]
        self.server.requests.append(f"GET {self.path} {name}")
        role = self.server.roles.setdefault(name, "admin")  # the default of the real server
        self._answer({"id": user_uid(name), "name": name, "role": role})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        role = body.get("role", "")
        self.server.requests.append(" ".join(("POST", self.path, role, str("X-Auth-Request-Email" in self.headers))))
        time.sleep(self.server.delay)
        self.server.meanwhile()
        roles = self.server.roles
        name = next((name for name in roles if user_uid(name) == body["user_id"]), None)
        if name is None:
            self._answer({"detail": f"User {body['user_id']} does not exist"}, 400)
        elif name in self.server.owners and (not role or roles[name] == "admin" != role):
            self._answer({"detail": REFUSAL.replace("WHAT", f"demote user {name!r}" if role else f"delete user {name!r}")}, 400)
        else:
            if role:
                roles[name] = role
            else:
                del roles[name]
            self._answer(None)

    def _answer(self, value: Any, status: int = 200) -> None:
        status, content = self.server.answers.get(self.path, (status, json.dumps(value).encode()))
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Log nothing."""


REFUSAL = "Cannot WHAT:\n  - workspace 'private': 1 active cluster(s): training\nPlease terminate these resources first."


@pytest.fixture
def server(settings: Any) -> Iterator[Server]:
    """The server, behind SkyAuth."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        settings.SKYPILOT_URL = running.address
        yield running
        running.shutdown()
        thread.join()
