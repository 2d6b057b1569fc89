"""Starts programs, waits until they are ready, and stops them."""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

ROOT: Final = Path(__file__).resolve().parent.parent
HOST: Final = "127.0.0.1"
READY_SECONDS: Final = 30
STOP_SECONDS: Final = 15  # uvicorn gives open requests ten
TAIL_LINES: Final = 15


class LaunchError(Exception):
    """An error whose message `make run` prints."""


class Stopped(Exception):
    """A signal to stop has arrived."""


@dataclass(frozen=True, slots=True)
class Child:
    """A started program and its log file."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path


class Signals:
    """Records signals to stop. An exception from a handler could lose a program that has just been started."""

    stopped = False

    def __init__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._handle)

    def _handle(self, *_: object) -> None:
        self.stopped = True

    def check(self) -> None:
        """Raise Stopped if a signal has arrived."""
        if self.stopped:
            raise Stopped


def require_free(name: str, port: int) -> None:
    """Raise LaunchError if the port is in use or not allowed."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen()
        except OSError as error:
            raise LaunchError(
                f"Port {port} cannot be used: {error.strerror}. Choose another one, for example {name}={port + 10}"
            ) from None


def start(name: str, command: list[str], environment: dict[str, str], logs: Path) -> Child:
    """Start a program in a session of its own, so that Ctrl-C does not reach it and `stop_all` keeps the order."""
    log = logs / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Child(name, process, log)


def require_alive(children: list[Child]) -> None:
    """Raise LaunchError, with the last lines of the log, if a program has ended."""
    for child in children:
        if (code := child.process.poll()) is not None:
            lines = child.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
            how = f"was stopped by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise LaunchError("\n  ".join([f"{child.name} {how}. The end of {relative(child.log)}:", *lines]))


def wait_until(ready: Callable[[], bool], children: list[Child], signals: Signals) -> None:
    """Wait until `ready` returns true. Raises Stopped, and LaunchError if a program ends or the wait takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        signals.check()
        require_alive(children)
        if time.monotonic() > deadline:
            last = children[-1]
            raise LaunchError(f"{last.name} was not ready after {READY_SECONDS} seconds. See {relative(last.log)}")
        time.sleep(0.05)


def status(address: str, path: str, headers: dict[str, str]) -> int:
    """Return the status of the response to a GET request; 0 without a response."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port or 80, timeout=2)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def reachable(address: str) -> bool:
    """Return whether the address accepts connections."""
    parts = urlsplit(address)
    try:
        default = 443 if parts.scheme == "https" else 80
        with socket.create_connection((str(parts.hostname), parts.port or default), timeout=2):
            return True
    except OSError:
        return False


def stop_all(children: list[Child]) -> None:
    """Stop the programs in reverse order, so that the gateway accepts no requests that nothing can answer; then kill them."""
    for child in reversed(children):
        _signal(child, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(STOP_SECONDS)
        _signal(child, signal.SIGKILL)  # also the processes that it started
        child.process.wait()


def _signal(child: Child, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.process.pid, number)


def relative(path: Path) -> Path:
    """Return the path relative to the project, if it is inside."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
