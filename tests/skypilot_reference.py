"""SkyPilot's own API server, with the cast of the contract in it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import bcrypt

from tests.factories import PASSWORD
from tests.http_client import HOST, ask, basic
from tests.replay import CAST, Answered, Asked, Scene, Step, play
from tests.sky import Mode, SkyPilot, skypilot_server

# It counts the operator whose machine it runs on among its users; here that is nobody in particular.
MACHINE = {"SKYPILOT_USER": "operator", "SKYPILOT_USER_ID": "0123abcd"}
# Without such a header, it takes a request from loopback for its operator's, who may do anything.
FROM_AFAR = ("X-Forwarded-For", "203.0.113.9")


class Original:
    """The server in one of the modes that the contract asks about."""

    def __init__(self, server: SkyPilot, mode: Mode) -> None:
        self._server = server
        self._mode = mode
        self.version = server.ask("/api/health").json["version"]

    def play(self, scene: Scene) -> Iterator[tuple[Step, Answered]]:
        """Play a scene with a cast that nothing has happened to."""
        if self._mode is Mode.BASIC:
            self._tidy()
        yield from play(scene, self._send)

    def _send(self, asked: Asked) -> tuple[int, Mapping[str, str], bytes]:
        reply = ask(self._server.port, asked.path, [*asked.headers, FROM_AFAR], method=asked.method, body=asked.body)
        return reply.status, dict(reply.headers), reply.body

    def _tidy(self) -> None:
        for row in self._server.ask("/users").json:
            if row["user_type"] != "system":
                assert self._server.ask("/users/delete", body={"user_id": row["id"]}).status == 200
        # It takes hashes as they are: at the lowest cost, so that it checks hundreds of passwords in no time.
        stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        lines = ["username,password,role", *(f"{name}@example.com,{stored},{role}" for name, role in CAST.items())]
        made = self._server.ask("/users/import", body={"csv_content": "\n".join(lines)})
        assert made.json["success_count"] == len(CAST), made
        alice = basic("alice@example.com", PASSWORD)
        _, _, raw = self._send(Asked("GET", "/users/service-account-tokens", (alice,), b""))
        for row in json.loads(raw):
            body = json.dumps({"token_id": row["token_id"]}).encode()
            self._send(Asked("POST", "/users/service-account-tokens/delete", (alice, ("Content-Type", "application/json")), body))


class _Nobody(BaseHTTPRequestHandler):
    """An oauth2-proxy at which nobody is signed in."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def _nobody() -> Iterator[str]:
    with ThreadingHTTPServer((HOST, 0), _Nobody) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://{HOST}:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@contextmanager
def original(mode: str) -> Iterator[Original]:
    """Run the server in that mode for as long as the block lasts."""
    with _nobody() as proxy:
        variables = {"SKYPILOT_AUTH_OAUTH2_PROXY_BASE_URL": proxy, **MACHINE}
        with skypilot_server(Mode(mode), **variables) as server:
            yield Original(server, Mode(mode))
