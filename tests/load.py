"""Load: clients that send one request after the other while something happens to the servers, and what went wrong for them."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException

from tests.http_client import HOST

Exchange = Callable[[HTTPConnection], str]


class Load:
    """Counts what `send` returns, and errors."""

    def __init__(self, connect: Callable[[], HTTPConnection], send: Exchange, clients: int, keep: bool) -> None:
        self.seen: Counter[str] = Counter()
        self.longest = 0.0
        self._connect, self._send, self._keep = connect, send, keep
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    @property
    def failed(self) -> dict[str, int]:
        """Everything that is not a 200."""
        return {what: count for what, count in self.seen.items() if what != "200"}

    def run(self) -> None:
        """Start the clients."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the clients, each after its request."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self) -> None:
        connection = self._connect()
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self.seen[self._send(connection)] += 1
            except (OSError, HTTPException) as error:
                self.seen[f"{type(error).__name__}: {error}"] += 1
                connection.close()
                time.sleep(0.02)
            self.longest = max(self.longest, time.monotonic() - began)
            if not self._keep:
                connection.close()
            time.sleep(0.002)  # leaves the processor to the servers
        connection.close()


def get(target: str, *headers: tuple[str, str | bytes]) -> Exchange:
    """Return an exchange: GET and POST in turn, on a connection that is opened again when the server closed it.

    It returns 200, or another status with the method and the body.
    """
    methods = ["GET", "POST"]

    def exchange(connection: HTTPConnection) -> str:
        methods.reverse()
        connection.request(methods[0], target, headers=dict(headers))  # type: ignore[arg-type]
        answer = connection.getresponse()
        body = answer.read()
        return "200" if answer.status == 200 else f"{answer.status} {methods[0]} {body[:200]!r}"

    return exchange


@contextmanager
def load(port: int, exchange: Exchange, *, clients: int = 4, keep: bool = True) -> Iterator[Load]:
    """Send requests to a port for as long as the block lasts, on connections that are kept, or on a new one for each."""
    with on(lambda: HTTPConnection(HOST, port, timeout=60), exchange, clients=clients, keep=keep) as running:
        yield running


@contextmanager
def on(connect: Callable[[], HTTPConnection], exchange: Exchange, *, clients: int = 4, keep: bool = True) -> Iterator[Load]:
    """The same, on connections that `connect` makes."""
    running = Load(connect, exchange, clients, keep)
    running.run()
    try:
        yield running
    finally:
        running.stop()


class UnixConnection(HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__(HOST, timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
