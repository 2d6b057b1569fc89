"""The parent process of several workers: starts them, replaces those that end or hang, and stops them."""

import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from functools import cached_property
from socket import socket
from types import FrameType
from typing import Final

from uvicorn.supervisors.multiprocess import Process

from skyauth.server_process import GRACE, RETIRE, STARTUP_FAILURE, Config, Server

_TURN: Final = 0.5  # seconds between two looks at the workers
_READY_SECONDS: Final = 60.0  # for a worker to start: on a busy machine its first imports alone take many seconds

logger = logging.getLogger("skyauth.workers")


class Worker(Process):
    """A worker process. uvicorn's class starts it and asks whether it still responds."""

    config: Config

    @cached_property
    def server(self) -> Server:
        return Server(self.config)

    def __init__(self, config: Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self._started_before = time.monotonic() + _READY_SECONDS
        self._responded = False

    def is_alive(self, timeout: float = _TURN) -> bool:
        """Return whether it runs and responds in time. Until its first response it may still be starting."""
        if not self.process.is_alive():
            return False
        if self._responded:
            return self.ping(timeout)
        self._responded = self.ping(_TURN)
        return self._responded or time.monotonic() < self._started_before

    def ping(self, timeout: float = _TURN) -> bool:
        """Return whether it responds in time. Responses to earlier pings, which came late, do not count."""
        with suppress(OSError, EOFError):
            while self.parent_conn.poll():
                self.parent_conn.recv()
        return super().ping(timeout)

    def signal(self, number: int) -> None:
        """Send a signal, unless the worker has ended."""
        if self.process.is_alive() and self.pid is not None:
            os.kill(self.pid, number)

    def end(self, seconds: float, hurry: threading.Event | None = None) -> None:
        """Wait until the worker has ended, and kill it after so many seconds, or as soon as `hurry` is set."""
        deadline = time.monotonic() + seconds
        while self.process.is_alive() and time.monotonic() < deadline and not (hurry and hurry.is_set()):
            self.process.join(0.1)
        if self.process.is_alive() and not (hurry and hurry.is_set()):
            logger.error("Worker %s did not stop in time and is killed.", self.pid)
            self.process.kill()
            self.process.join()


class Supervisor:
    """Runs the workers on sockets that all of them share."""

    def __init__(self, config: Config, sockets: list[socket], workers: int) -> None:
        self._config = config
        self._sockets = sockets
        self._number = workers
        self._workers: list[Worker] = []
        self._retired: list[Worker] = []
        self._stop = threading.Event()
        self._stop_signal: int = signal.SIGTERM
        self._restarts = False
        self._failed = False

    def run(self) -> None:
        """Run until a signal arrives. Raises SystemExit if a worker cannot start."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_hang_up)
        self._workers = [self._start() for _ in range(self._number)]
        while not self._stop.wait(_TURN):
            if self._restarts:
                self._restarts = False
                self._restart()
            self._replace_ended()
        self._end()
        if self._failed:
            sys.exit(STARTUP_FAILURE)

    def _on_stop(self, sig: int, _: FrameType | None) -> None:
        if self._stop.is_set():  # a second signal
            sig = signal.SIGINT
            for worker in self._workers:
                worker.signal(sig)
        self._stop_signal = sig
        self._stop.set()

    def _on_hang_up(self, *_: object) -> None:
        self._restarts = True

    def _start(self) -> Worker:
        worker = Worker(self._config, self._sockets)
        worker.start()
        return worker

    def _restart(self) -> None:
        """Replace one worker after the other. A worker ends only when its replacement serves, so no connection is refused."""
        logger.info("SIGHUP: the workers are replaced.")
        for position, old in enumerate(self._workers):
            new = self._start()
            if not new.wait_until_ready(_READY_SECONDS, self._stop):
                new.kill()
                new.join()
                if not self._stop.is_set():
                    logger.error("A new worker did not start. The other workers continue.")
                return
            self._workers[position] = new
            old.signal(RETIRE)
            self._retired.append(old)
            old.end(self._patience, self._stop)
            if self._stop.is_set():
                return
            self._retired.remove(old)
        logger.info("All workers are replaced.")

    def _replace_ended(self) -> None:
        """Start a worker for each one that has ended, or that has not responded and is killed."""
        for position, worker in enumerate(self._workers):
            if self._stop.is_set() or worker.is_alive(timeout=self._config.timeout_worker_healthcheck):
                continue
            worker.kill()
            worker.join()
            if worker.exitcode == STARTUP_FAILURE:
                logger.error("A worker cannot start. See the messages above.")
                self._failed = True
                self._stop.set()
                return
            logger.error("Worker %s ended unexpectedly and is replaced.", worker.pid)
            self._workers[position] = self._start()

    def _end(self) -> None:
        """Stop all workers. The sockets are closed first: a socket that only this process holds would let clients wait."""
        for listener in self._sockets:
            listener.close()
        for worker in self._workers:
            worker.signal(self._stop_signal)
        for worker in (*self._workers, *self._retired):
            worker.end(self._patience)

    @property
    def _patience(self) -> float:
        return self._config.drain + GRACE + 5
