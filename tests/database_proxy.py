"""A TCP proxy between SkyAuth and PostgreSQL that fails as networks and hosts do: silently, with an error, or half."""

import ctypes
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.http_client import HOST

_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
_READY_FOR_QUERY = b"Z\x00\x00\x00\x05I"  # PostgreSQL's last message when a client has logged in


def _drop_everything(of: socket.socket) -> None:
    """Let the kernel drop each segment that arrives at the socket: no ACK, no RST, as from a host that is gone."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET: keep 0 bytes
    of.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))


class _Pair:
    """One connection of SkyAuth, and the one to PostgreSQL that it leads to."""

    def __init__(self, client: socket.socket, port: int, *, silent_after_login: bool = False) -> None:
        self.silent_after_login = silent_after_login
        self.client = client
        self.server = socket.create_connection((HOST, port), timeout=10)
        self.server.settimeout(None)
        self.silent = threading.Event()
        self.swallowed = 0  # bytes that arrived since then
        for source, target in ((client, self.server), (self.server, client)):
            threading.Thread(target=self._forward, args=(source, target), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if self.silent.is_set():
                    self.swallowed += len(data)
                else:
                    target.sendall(data)
                    if self.silent_after_login and source is self.server and _READY_FOR_QUERY in data:
                        self.silent.set()
        if not self.silent.is_set():
            self.close()

    def close(self, *, reset: bool = False) -> None:
        for each in (self.client, self.server):
            with suppress(OSError):
                if reset:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    each.shutdown(socket.SHUT_RDWR)
                each.close()


class DatabaseProxy:
    """Forwards connections to PostgreSQL on the port `target`, which can be changed as the address of a name can."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.accepts_silently = False  # whether new connections are accepted and never answered
        self.silent_after_login = False  # whether new connections are answered until the client has logged in, and no longer
        self._pairs: list[_Pair] = []
        self._held: list[socket.socket] = []
        self._listener = self._listen(0)
        self.port = int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"postgres://postgres@{HOST}:{self.port}/postgres"

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server((HOST, port))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                if self.accepts_silently:
                    self._held.append(client)
                    continue
                try:
                    self._pairs.append(_Pair(client, self.target, silent_after_login=self.silent_after_login))
                except OSError:
                    client.close()

    def silence(self) -> None:
        """Go on acknowledging on the connections that exist, and forward nothing more."""
        for pair in self._pairs:
            pair.silent.set()

    def silence_last(self) -> _Pair:
        """Do so on the newest connection that is open, and return it."""
        pair = next(pair for pair in reversed(self._pairs) if pair.client.fileno() != -1)
        pair.silent.set()
        return pair

    def vanish(self) -> None:
        """Be gone for the connections that exist: no answer, no ACK, no RST."""
        self.silence()
        for pair in self._pairs:
            with suppress(OSError):
                _drop_everything(pair.client)

    def vanish_for_all(self) -> None:
        """Be gone, also for those that connect."""
        self.vanish()
        _drop_everything(self._listener)

    def return_for_new(self) -> None:
        """Accept connections again. Those that were silenced stay so."""
        self.accepts_silently = False
        with suppress(OSError):
            self._listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def refuse(self) -> None:
        """Reset the connections that exist, and refuse new ones."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # it wakes the thread that accepts
        self._listener.close()
        for pair in self._pairs:
            pair.close(reset=True)
        self._pairs.clear()

    def listen_again(self) -> None:
        """Accept connections on the same port again."""
        self._listener = self._listen(self.port)

    def close(self) -> None:
        """End everything."""
        self.refuse()
        for client in self._held:
            client.close()


@contextmanager
def database_proxy(target: int) -> Iterator[DatabaseProxy]:
    """Run a proxy to PostgreSQL on this port."""
    proxy = DatabaseProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
