"""Where a benchmark's programs run: each is started once, keeps its files in one directory, and ends with the benchmark."""

import subprocess
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg

from benchmarks.errors import BenchmarkError
from benchmarks.load import Requests
from tests.servers import ROOT, Postgres, Program, directory, environment, free_port, postgres, start

T = TypeVar("T")

PATIENCE_SECONDS: Final = 900  # for a million rows, on a slow disk
TAIL: Final = 2_000  # characters of a log that are shown


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs that a benchmark needs. `peers` and `skypilot` are Pythons of environments of their own, "" for none."""

    wrk: str
    nginx: str = ""
    peers: str = ""
    skypilot: str = ""


@dataclass(frozen=True, slots=True)
class Also:
    """A request that is made before each round, and the statuses that are right for it."""

    request: bytes
    expected: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """A running server and what is asked of it. `programs` are the processes whose processor time is the server's."""

    port: int
    requests: Requests
    programs: tuple[Program, ...]
    expected: int = 200
    also: tuple[Also, ...] = ()
    during: Callable[[], AbstractContextManager[object]] = nullcontext  # entered while wrk asks

    @property
    def sessions(self) -> tuple[int, ...]:
        """The process sessions of the programs."""
        return tuple(program.process.pid for program in self.programs)


class Harness:
    """Starts what subjects ask for. What has the same name is made once."""

    def __init__(self, stack: ExitStack, tools: Tools, *, few: int, many: int) -> None:
        self.tools = tools
        self.few = few  # tokens in an ordinary database
        self.many = many  # and in a large one
        self.home = stack.enter_context(directory())
        self._stack = stack
        self._made: dict[Hashable, Any] = {}

    def once(self, name: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` made when it was asked for by this name for the first time."""
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]
        return made

    def folder(self, name: str) -> Path:
        """Make a directory for somebody's files."""
        path = self.home / name
        path.mkdir(exist_ok=True)
        return path

    def serve(self, name: str, command: list[str], port: int, **settings: str) -> Program:
        """Start a server and wait until it listens. Raises BenchmarkError with the end of its log."""
        program = start(command, self.home / f"{name}.log", environment(**settings))
        self._stack.callback(program.end)
        try:
            program.wait_for(port)
        except AssertionError as error:
            raise BenchmarkError(f"{name} did not start: {str(error)[-TAIL:]}") from None
        return program

    def run(self, name: str, command: list[str], **settings: str) -> None:
        """Run a program to its end. Raises BenchmarkError when that is a bad one."""
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        if done.returncode:
            raise BenchmarkError(f"{name} ended with {done.returncode}: {(done.stdout + done.stderr)[-TAIL:]}")

    @contextmanager
    def beside(self, name: str, command: list[str], **settings: str) -> Iterator[None]:
        """Run a program that says "ready", and let it end by the end of its standard input. Raises BenchmarkError."""
        with (self.home / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment(**settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                raise BenchmarkError(f"{name} did not start: {(self.home / f'{name}.log').read_text()[-TAIL:]}")
            yield
            process.stdin.close()
        if process.returncode:
            raise BenchmarkError(f"{name} ended with {process.returncode}: {(self.home / f'{name}.log').read_text()[-TAIL:]}")

    def port(self) -> int:
        """Return a free port that was not given to anybody else here."""
        while (port := free_port()) in self._made:
            pass
        return self.once(port, lambda: port)

    def template(self, name: str, request: bytes) -> Path:
        """Write a request to a file, for wrk."""
        path = self.home / f"{name}.http"
        path.write_bytes(request)
        return path

    def lines(self, name: str, *lines: str) -> Path:
        """Write credentials to a file, one a line."""
        path = self.home / f"{name}.txt"
        path.write_text("".join(line + "\n" for line in lines), encoding="ascii")
        return path

    def cluster(self) -> Postgres:
        """Return the temporary PostgreSQL cluster that is everybody's. Raises BenchmarkError when it does not start."""
        try:
            return self.once("postgresql", lambda: self._stack.enter_context(postgres()))
        except AssertionError as error:
            raise BenchmarkError(f"PostgreSQL did not start: {str(error)[-TAIL:]}") from None

    def database(self, name: str) -> str:
        """Create a database in the cluster and return its URL."""
        url = self.cluster().url
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return f"{url.rpartition('/')[0]}/{name}"
