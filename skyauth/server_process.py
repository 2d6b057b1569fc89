"""One process that serves: the only one, or a worker of several. It stops without losing a request."""

import asyncio
import logging
import multiprocessing
import os
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from socket import socket
from types import FrameType
from typing import Any, Final

import uvicorn

from core.request_limits import LimitedProtocol, ServerState
from skyauth.certificates import CertificateFiles, Renewal

_APPLICATION: Final = "skyauth.asgi:application"
GRACE: Final = 10  # seconds that running requests get at the end
STARTUP_FAILURE: Final = 3  # an exit code, the same as uvicorn's
RETIRE: Final = signal.SIGUSR1  # to a worker: stop, and leave new connections to the other workers
_FIRST_REQUEST: Final = 1.0  # seconds that a new connection gets to send its first request before it is closed
_CERTIFICATE_TICKS: Final = 100  # of a tenth of a second

logger = logging.getLogger("skyauth.server")


class Config(uvicorn.Config):
    """The options of a server, as every worker process receives them."""

    def __init__(self, *, drain: float, passed: bool, certificate: CertificateFiles | None, **options: Any) -> None:
        super().__init__(_APPLICATION, **options)
        self.drain = drain
        self.passed = passed  # whether a service manager keeps the sockets open
        self.certificate = certificate

    def load(self) -> None:
        super().load()
        if self.certificate is not None:
            self.ssl = self.certificate.context()


class Server(uvicorn.Server):
    """Serves in this process.

    On SIGTERM it drains first: /readyz returns 503, and every response closes its connection, while new connections are still
    accepted. So proxies stop using this server before it stops listening. If others continue to listen at the same address
    (other workers, or the next process at an inherited socket), /readyz does not change.
    """

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.server_state: ServerState = ServerState()
        self._hurries = self._retires = self._read_certificate = False
        self._renewal: Renewal | None = None

    def run(self, sockets: list[socket] | None = None) -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            threading.Thread(target=_end_after, args=(parent,), name="parent", daemon=True).start()
        super().run(sockets)

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        if self.config.certificate is not None and isinstance(self.config.ssl, ssl.SSLContext):
            self._renewal = Renewal(self.config.certificate, self.config.ssl)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals. Unlike uvicorn's, this does not repeat them at the end: the caller still has something to do."""
        previous = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM, RETIRE)}
        previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop: at SIGINT (Ctrl-C) and at a second signal without draining, at RETIRE for other workers."""
        self._hurries = self._hurries or self.should_exit or sig == signal.SIGINT
        self._retires = self._retires or sig == RETIRE
        super().handle_exit(sig, frame)

    def _hang_up(self, *_: object) -> None:
        self._read_certificate = True

    async def on_tick(self, counter: int) -> bool:
        if self._renewal is not None and (self._read_certificate or counter % _CERTIFICATE_TICKS == 0):
            self._renewal.check()
        if self._read_certificate:
            self._read_certificate = False
            if multiprocessing.parent_process() is None:
                logger.info("SIGHUP: only the TLS certificate is read again. To use new code or settings, restart the server.")
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        listening_goes_on = self._retires or self.config.passed
        if self.config.drain and not self._hurries:
            logger.info("Draining for %s seconds. A second signal ends this.", self.config.drain)
        self.server_state.draining = True
        if not listening_goes_on:
            self.lifespan.state["stopping"] = True
        for connection in self._connections():
            if not connection.idle():
                connection.shutdown()  # once its response is complete
        if self._retires:
            self._stop_listening(sockets)
        await self._wait(self.config.drain, until_unused=listening_goes_on)
        self._stop_listening(sockets)
        await self._wait(_FIRST_REQUEST, only_new=True)
        await super().shutdown(sockets)

    def _connections(self) -> list[LimitedProtocol]:
        return [connection for connection in self.server_state.connections if isinstance(connection, LimitedProtocol)]

    def _stop_listening(self, sockets: list[socket] | None) -> None:
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()

    async def _wait(self, seconds: float, *, until_unused: bool = True, only_new: bool = False) -> None:
        """Serve for so many seconds, or until a signal tells to hurry, or until there are no (`only_new`: new) connections."""
        end, counter = time.monotonic() + seconds, 0
        while not self._hurries and time.monotonic() < end:
            if until_unused and not any(connection.expects_request() or not only_new for connection in self._connections()):
                return
            counter += 1
            await self.on_tick(counter)
            await asyncio.sleep(0.05 if only_new else 0.1)


def _end_after(parent: BaseProcess) -> None:
    """End this worker after its parent, which was killed: nobody could stop the worker any more, and it holds the port."""
    parent.join()
    logger.error("The parent process has ended. This worker stops.")
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE + 2)
    os._exit(1)  # it does not react
