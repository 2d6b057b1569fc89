"""An upstream that keeps what reached it, byte for byte, and can stream, take large bodies and speak WebSocket."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from socketserver import StreamRequestHandler, ThreadingTCPServer

from tests.http_client import HOST

STREAMED = 5  # lines
PATIENCE = 40  # seconds for a reader of one line to say so
CORS = (  # the answer to a request with Origin, as SkyPilot's: `*` stands for whatever origin it was
    ("Access-Control-Allow-Origin", "*"),
    ("access-control-allow-credentials", "true"),
    ("Access-Control-Allow-Methods", "GET, POST"),
    ("Access-Control-Allow-Headers", "authorization"),
    ("Access-Control-Allow-Private-Network", "true"),
    ("Access-Control-Expose-Headers", "X-Skypilot-Request-ID"),
    ("Access-Control-Max-Age", "600"),
)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3


@dataclass(frozen=True, slots=True)
class Arrived:
    """One request as it reached the upstream; the header names are as they were spelt."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body_bytes: int = 0
    trailers: tuple[tuple[str, str], ...] = ()

    def all(self, name: str) -> list[str]:
        """Return every value of a header of exactly this name, in any case."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Upstream(ThreadingTCPServer):
    """Serves in a thread; `arrived` has the requests that came through, the latest last."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Handler)
        self.arrived: list[Arrived] = []
        self.body_bytes = 0  # of the request that is arriving
        self.written = 0.0  # when the latest line of /stream or /drip was
        self.read = threading.Semaphore(0)  # released by whoever has read a line of /stream or /drip: only then comes the next

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that went away in the middle is part of the tests."""


class _Handler(StreamRequestHandler):
    server: Upstream
    timeout = 60

    def handle(self) -> None:
        while line := self.rfile.readline().rstrip(b"\r\n"):
            method, target, _ = line.decode("latin-1").split(" ")
            headers = tuple(self._headers())
            arrived = Arrived(method, target, headers)
            if arrived.all("Upgrade") == ["websocket"]:
                self.server.arrived.append(arrived)
                self._websocket(arrived.all("Sec-WebSocket-Key")[0])
                return
            if arrived.all("Expect"):
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.trailers: tuple[tuple[str, str], ...] = ()
            arrived = Arrived(method, target, headers, self._body_size(arrived), self.trailers)
            self.server.arrived.append(arrived)
            if target == "/stream":
                self._stream()
            elif target == "/drip":
                self._drip()
            else:
                self._answer(arrived)

    def _headers(self) -> Iterator[tuple[str, str]]:
        while line := self.rfile.readline().rstrip(b"\r\n"):
            name, _, value = line.decode("latin-1").partition(":")
            yield name, value.strip()

    def _body_size(self, arrived: Arrived) -> int:
        self.server.body_bytes = 0
        for part in self._body(arrived):
            self.server.body_bytes += part
        return self.server.body_bytes

    def _body(self, arrived: Arrived) -> Iterator[int]:
        if arrived.all("Transfer-Encoding"):
            while size := int(self.rfile.readline(), 16):
                yield len(self.rfile.read(size))
                self.rfile.readline()
            self.trailers = tuple(self._headers())
        left = int((arrived.all("Content-Length") or ["0"])[0])
        while left:
            part = len(self.rfile.read1(min(left, 1 << 20)))
            if not part:
                raise EOFError("The body ended too soon.")
            left -= part
            yield part

    def _answer(self, arrived: Arrived) -> None:
        shown = {
            "method": arrived.method,
            "target": arrived.target,
            "headers": arrived.headers,
            "body_bytes": arrived.body_bytes,
        }
        content = json.dumps(shown).encode()
        fields = [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
        for origin in arrived.all("Origin"):
            fields += [(name, origin if value == "*" else value) for name, value in CORS]
        head = b"HTTP/1.1 200 OK\r\n%s\r\n" % "".join(f"{name}: {value}\r\n" for name, value in fields).encode("latin-1")
        self.wfile.write(head if arrived.method == "HEAD" else head + content)

    def _stream(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
        for n in range(STREAMED):
            line = b"line %d\n" % n
            self._write_and_wait(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.write(b"0\r\n\r\n")

    def _drip(self) -> None:
        """Answer as `_stream`, but say beforehand how long it will be: proxies like to buffer that."""
        lines = [b"line %d\n" % n for n in range(STREAMED)]
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % sum(map(len, lines)))
        for line in lines:
            self._write_and_wait(line)

    def _write_and_wait(self, line: bytes) -> None:
        self.server.written = time.monotonic()
        self.wfile.write(line)
        if not self.server.read.acquire(timeout=PATIENCE):
            raise TimeoutError("Nobody read the line that was written.")

    def _websocket(self, key: str) -> None:
        """Echo small frames (RFC 6455 section 5.2) until the other side closes."""
        accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest())
        self.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept
        )
        while len(start := self.rfile.read(2)) == 2:
            size = start[1] & 0x7F
            mask = self.rfile.read(4)
            payload = bytes(byte ^ mask[n % 4] for n, byte in enumerate(self.rfile.read(size)))
            self.wfile.write(bytes((start[0], size)) + payload)


@contextmanager
def upstream() -> Iterator[Upstream]:
    """Serve an upstream on a free loopback port for as long as the block lasts."""
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
