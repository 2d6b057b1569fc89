"""Programs that are started, waited for and stopped, and the sentence that is said when one of them does not do its part."""

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
    """Something that the person who typed `make run` must know, as a sentence."""


class Stopped(Exception):
    """A signal asked us to stop."""


@dataclass(frozen=True, slots=True)
class Child:
    """One started program and where its output goes."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path


class Signals:
    """Notes that we were asked to stop. An exception from a handler could come between a start and its note."""

    asked = False

    def __init__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, *_: object) -> None:
        self.asked = True

    def check(self) -> None:
        """Raise Stopped if we were asked to."""
        if self.asked:
            raise Stopped


def require_free(name: str, port: int) -> None:
    """Raise LaunchError when something listens on the port already, or we may not."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen()
        except OSError as error:
            raise LaunchError(f"Port {port} cannot be used: {error.strerror}. Choose another, as {name}={port + 10}") from None


def start(name: str, command: list[str], environment: dict[str, str], logs: Path) -> Child:
    """Start a program in a session of its own: Ctrl-C reaches us alone, and we stop the others in order."""
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
    """Raise LaunchError, with the last lines of its log, when a child has died."""
    for child in children:
        if (code := child.process.poll()) is not None:
            lines = child.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise LaunchError("\n  ".join([f"{child.name} {how}. The end of {shown(child.log)}:", *lines]))


def wait_until(ready: Callable[[], bool], children: list[Child], signals: Signals) -> None:
    """Return when the last of the children is `ready`. Raises Stopped, or LaunchError when a child dies or it takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        signals.check()
        require_alive(children)
        if time.monotonic() > deadline:
            last = children[-1]
            raise LaunchError(f"{last.name} did not get ready in {READY_SECONDS} seconds. See {shown(last.log)}")
        time.sleep(0.05)


def status(address: str, path: str, headers: dict[str, str]) -> int:
    """Return the status that a GET is answered with, 0 when there is no answer."""
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
    """Return whether something listens at the address."""
    parts = urlsplit(address)
    try:
        default = 443 if parts.scheme == "https" else 80
        with socket.create_connection((str(parts.hostname), parts.port or default), timeout=2):
            return True
    except OSError:
        return False


def stop_all(children: list[Child]) -> None:
    """Stop the children, the gateway first, so that nothing comes in that finds nobody; whoever does not go is ended."""
    for child in reversed(children):
        _signal(child, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(STOP_SECONDS)
        _signal(child, signal.SIGKILL)  # also what it may have started itself
        child.process.wait()


def _signal(child: Child, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.process.pid, number)


def shown(path: Path) -> Path:
    """Return the path as one would type it in the project."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
