"""Real servers for tests: processes on free loopback ports, each with a directory of its own, gone with its `with` block."""

import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.databases import on_postgres, require_database
from tests.http_client import HOST, ask
from tests.requirements import need_program

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 60
SECRET_KEY = secrets.token_urlsafe(48)
POSTGRESQL = "install Debian's postgresql package"


def free_port() -> int:
    """Return a port that nobody listens on, below those that the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port


def wait_until(done: Callable[[], bool], what: str, seconds: float = READY_SECONDS) -> None:
    """Return as soon as `done`; fail when it takes longer."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"waited {seconds} seconds in vain: {what}"
        time.sleep(0.05)


def listens(port: int) -> bool:
    """Return whether something accepts connections on the port."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=2):
        return True
    return False


@dataclass
class Program:
    """A started process, in a process group of its own, and where its output goes."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, port: int) -> None:
        """Return when the program listens on the port; fail when it ends instead."""

        def ready() -> bool:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output}"
            return listens(port)

        wait_until(ready, f"port {port}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait, and return the exit code. Whatever is left of the group afterwards is killed."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(20)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def start(command: list[str], log: Path, environment: Mapping[str, str], *, user: str | None = None, cwd: Path = ROOT) -> Program:
    """Start a program with this environment and no other; as another user, where we may, and in another directory than ours."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **({"user": user, "group": user, "extra_groups": []} if user else {}),
        )
    return Program(process, log)


class Console:
    """Carries out the verbs of `tests.console` on a server's data."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.console"],
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer("migrate")

    def __call__(self, verb: str, **arguments: Any) -> Any:
        """Return what the verb returns; fail as it fails."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, arguments]) + "\n")
        self._process.stdin.flush()
        return self._answer(verb)

    def _answer(self, verb: str) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"failed": "the console ended"}
        assert "failed" not in answer, f"{verb}: {answer['failed']}"
        return answer["done"]

    def close(self) -> None:
        """Let the process end."""
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()


def environment(**settings: str) -> dict[str, str]:
    """Return an environment with these settings and none of ours, in particular not those of the test run itself."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV") if name in os.environ}
    return {**kept, "PYTHONUNBUFFERED": "1", **settings}


@contextmanager
def directory() -> Iterator[Path]:
    """Make a directory for as long as the block lasts; its path is short enough for a Unix socket in it."""
    with tempfile.TemporaryDirectory(prefix="skyauth-") as path:
        yield Path(path)


@contextmanager
def database() -> Iterator[dict[str, str]]:
    """Yield the settings of an empty database: on the server that DATABASE_URL names where it does, else SQLite in DATA_DIR."""
    require_database()
    if not on_postgres():
        yield {}
        return
    url = os.environ["DATABASE_URL"]
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
    try:
        yield {"DATABASE_URL": f"{url.rpartition('/')[0]}/{name}", "SECRET_KEY": SECRET_KEY}
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]


@dataclass
class SkyAuth:
    """A running SkyAuth: where it listens, and the console to its data."""

    port: int
    data: Path
    environment: dict[str, str]
    console: Console
    programs: list[Program] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> str:
        return self.programs[-1].output

    def start(self, *options: str, workers: int = 1, drain: int = 0) -> None:
        """Start the one supported server profile, and wait until it listens."""
        command = [
            sys.executable, "manage.py", "serve", "--host", HOST, "--port", str(self.port), "--workers", str(workers),
            "--drain", str(drain), *options,
        ]  # fmt: skip
        self.programs.append(start(command, self.data / "skyauth.log", self.environment))
        self.programs[-1].wait_for(self.port)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop it."""
        self.programs[-1].end(number)

    def ask(self, *headers: tuple[str, str | bytes], source: str = HOST, method: str = "GET", uri: str = "/") -> Any:
        """Ask the verify endpoint as a proxy does, from the source address, and return the answer."""
        told = [("X-Forwarded-Method", method), ("X-Forwarded-Host", HOST), ("X-Forwarded-Uri", uri)]
        return ask(self.port, "/authz/verify", [*told, *headers], source=source)


@contextmanager
def replica(of: SkyAuth, *, drain: int = 0) -> Iterator[SkyAuth]:
    """Serve a second SkyAuth on the database of another one."""
    server = SkyAuth(free_port(), of.data, of.environment, of.console)
    try:
        server.start(drain=drain)
        yield server
    finally:
        for program in server.programs:
            program.end()


_migrated: list[bytes] = []


def _write_migrated(path: Path) -> None:
    """Write the SQLite database that a first migration made, so that this one has nothing to do."""
    if _migrated:
        path.write_bytes(_migrated[0])


def _keep_migrated(path: Path) -> None:
    """Keep a database that was only migrated, for the servers that this process starts later."""
    if not _migrated and path.exists():
        with closing(sqlite3.connect(path)) as connection:
            _migrated.append(connection.serialize())


@contextmanager
def skyauth_server(**settings: str) -> Iterator[SkyAuth]:
    """Serve SkyAuth on an empty database with the route pack `read-write`, trusting 127.0.0.1 unless told otherwise."""
    with ExitStack() as stack:
        data = stack.enter_context(directory())
        where = stack.enter_context(database())
        port = free_port()
        values = {"DATA_DIR": str(data), "TRUSTED_PROXIES": HOST, "PUBLIC_URL": f"http://{HOST}:{port}", **where, **settings}
        if not where:
            _write_migrated(data / "skyauth.sqlite3")
        console = Console(environment(**values))
        stack.callback(console.close)
        if not where:
            _keep_migrated(data / "skyauth.sqlite3")
        console("load_pack", name="read-write")
        server = SkyAuth(port, data, environment(**values), console)
        stack.callback(lambda: [program.end() for program in server.programs])
        server.start()
        yield server


@contextmanager
def caddy(skyauth: int, upstream: str) -> Iterator[int]:
    """Run the shipped Caddyfile between the SkyAuth on this port and the upstream at this address; yields Caddy's port."""
    program = need_program("caddy", hint="pip install -r requirements-gateway.txt")
    with directory() as home:
        port = free_port()
        variables = {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "XDG_DATA_HOME": str(home),
            "SKYAUTH": f"{HOST}:{skyauth}",
            "UPSTREAM": upstream,
            "GATEWAY_BIND": HOST,
            "GATEWAY_PORT": str(port),
        }
        command = [program, "run", "--adapter", "caddyfile", "--config", str(ROOT / "deploy" / "proxies" / "caddy" / "Caddyfile")]
        running = start(command, home / "caddy.log", environment(**variables))
        try:
            running.wait_for(port)
            yield port
        finally:
            running.end()


@dataclass
class Postgres:
    """A PostgreSQL cluster of our own on loopback, where everybody may connect and nothing is ever flushed to disk."""

    port: int
    data: Path
    user: str | None
    programs: list[Program] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"postgres://postgres@{HOST}:{self.port}/postgres"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        unsafe = [option for name in ("fsync", "synchronous_commit", "full_page_writes") for option in ("-c", f"{name}=off")]
        command = [
            need_program("postgres", hint=POSTGRESQL), "-D", str(self.data / "cluster"), "-h", HOST, "-p", str(self.port),
            "-k", str(self.data), "-c", "max_connections=200", *unsafe,
        ]  # fmt: skip
        self.programs.append(start(command, self.data / "postgres.log", environment(), user=self.user))
        wait_until(self._answers, f"PostgreSQL on port {self.port}")

    def stop(self) -> None:
        """Stop the server at once; its clients lose their connections."""
        self.programs[-1].end(signal.SIGINT)  # what PostgreSQL calls a fast shutdown

    def _answers(self) -> bool:
        program = self.programs[-1]
        assert program.process.poll() is None, program.output
        with suppress(psycopg.OperationalError), psycopg.connect(self.url, connect_timeout=2):
            return True
        return False


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a temporary PostgreSQL cluster. It refuses to run as root: then its owner is the system's user `postgres`."""
    user = "postgres" if os.geteuid() == 0 else None
    with directory() as data:
        if user is not None:
            shutil.chown(data, user)
        initdb = need_program("initdb", hint=POSTGRESQL)
        command = [initdb, "-D", str(data / "cluster"), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        made = start([*command, "--locale=C.UTF-8"], data / "initdb.log", environment(), user=user)
        assert made.process.wait(60) == 0, made.output
        server = Postgres(free_port(), data, user)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@dataclass
class Launch:
    """What `make run` starts, on ports and with data of its own."""

    data: Path
    environment: dict[str, str]
    program: Program

    @property
    def output(self) -> str:
        return self.program.output

    @property
    def port(self) -> int:
        return int(self.environment["PORT"])

    @property
    def gateway(self) -> int:
        return int(self.environment["GATEWAY_PORT"])

    @property
    def token(self) -> str:
        """The token that a first run shows."""
        return self._shown(r"Bearer (sky_\w+)")

    @property
    def password(self) -> str:
        """The first admin's password, which a first run shows."""
        return self._shown(r"Password: (\S+)")

    def _shown(self, pattern: str) -> str:
        found = re.search(pattern, self.output)
        assert found is not None, self.output
        return found[1]


def launch(data: Path, *, root: Path = ROOT, **settings: str) -> Launch:
    """Start the launcher of `make run` on free ports, of this copy of the project, and return at once."""
    ports = {name: str(free_port()) for name in ("PORT", "GATEWAY_PORT", "ECHO_PORT")}
    values = environment(DATA_DIR=str(data / "var"), **{**ports, **settings})
    log = data / f"launch-{secrets.token_hex(4)}.log"
    return Launch(data / "var", values, start([sys.executable, "scripts/run.py"], log, values, cwd=root))


@contextmanager
def launched(data: Path, *, root: Path = ROOT, **settings: str) -> Iterator[Launch]:
    """Start the launcher, wait until it says that everything is there, and stop it at the end."""
    running = launch(data, root=root, **settings)

    def told() -> bool:
        assert running.program.process.poll() is None, running.output
        return "Ctrl-C stops everything" in running.output

    try:
        wait_until(told, "make run is ready", 2 * READY_SECONDS)
        yield running
    finally:
        running.program.end()
