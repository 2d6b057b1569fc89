"""SkyPilot's own API server, with the cast of the contract in it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import bcrypt

from tests.factories import PASSWORD
from tests.replay import CAST, Asked, Send
from tests.skypilot import Mode, SkyPilot, skypilot_server
from tests.wire import HOST, basic
from tests.wire import ask as ask_wire

# Without such a header, it takes a request from loopback for its operator's, who may do anything.
FROM_AFAR = ("X-Forwarded-For", "203.0.113.9")


class Originals:
    """The server in each of the modes that the contract asks about, started when it is first asked."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._running: dict[str, SkyPilot] = {}
        self.version = ""

    def server(self, mode: str) -> SkyPilot:
        """Return the server in that mode."""
        if mode not in self._running:
            variables = {}
            if mode == "oauth2":
                variables["SKYPILOT_AUTH_OAUTH2_PROXY_BASE_URL"] = self._stack.enter_context(_refusing())
            running = self._stack.enter_context(skypilot_server(Mode(mode), **variables))
            self._running[mode] = running
            self.version = running.ask("/api/health").json["version"]
            self.tidy(mode)
        return self._running[mode]

    def sender(self, mode: str) -> Send:
        """Return what sends a request to the server in that mode, as from another machine."""
        port = self.server(mode).port

        def send(asked: Asked) -> tuple[int, Mapping[str, str], bytes]:
            reply = ask_wire(port, asked.path, [*asked.headers, FROM_AFAR], method=asked.method, body=asked.body)
            return reply.status, dict(reply.headers), reply.body

        return send

    def tidy(self, mode: str) -> None:
        """Delete everybody, and make the cast anew."""
        server = self.server(mode)
        if mode != "basic":
            return
        for row in server.ask("/users").json:
            if row["user_type"] != "system":
                assert server.ask("/users/delete", body={"user_id": row["id"]}).status == 200
        # It takes hashes as they are: at the lowest cost, so that it checks hundreds of passwords in no time.
        stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        lines = ["username,password,role", *(f"{name}@example.com,{stored},{role}" for name, role in CAST.items())]
        made = server.ask("/users/import", body={"csv_content": "\n".join(lines)})
        assert made.json["success_count"] == len(CAST), made
        self._delete_tokens()

    def _delete_tokens(self) -> None:
        send, alice = self.sender("basic"), basic("alice@example.com", PASSWORD)
        _, _, raw = send(Asked("GET", "/users/service-account-tokens", (alice,), b""))
        for row in json.loads(raw):
            body = json.dumps({"token_id": row["token_id"]}).encode()
            send(Asked("POST", "/users/service-account-tokens/delete", (alice, ("Content-Type", "application/json")), body))


class _Nobody(BaseHTTPRequestHandler):
    """An oauth2-proxy at which nobody is signed in."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def _refusing() -> Iterator[str]:
    with ThreadingHTTPServer((HOST, 0), _Nobody) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://{HOST}:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@contextmanager
def originals() -> Iterator[Originals]:
    """Yield the servers; they end with the block."""
    with ExitStack() as stack:
        yield Originals(stack)
