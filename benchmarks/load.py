"""Requests as bytes, and the two ways to make them: one after the other, looking at each answer, and as many as wrk can."""

import json
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from itertools import islice
from pathlib import Path
from typing import Final

from benchmarks.errors import BenchmarkError

HOST: Final = "127.0.0.1"
CONNECTIONS: Final = 32
MARK: Final = b"@@"
SCRIPT: Final = Path(__file__).with_name("load.lua")
SECONDS_TO_SPARE: Final = 30

# What a client and the proxy in front of us send, whoever we are: nobody is to be faster because he was told less.
COMMON: Final = (
    ("Host", "api.example.com"),
    ("User-Agent", "python-requests/2.32.5"),
    ("Accept", "application/json"),
    ("Accept-Encoding", "gzip, deflate"),
    ("X-Forwarded-For", "203.0.113.7"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Method", "GET"),
    ("X-Forwarded-Host", "api.example.com"),
)


def template(target: str, *headers: tuple[str, str], asked: str) -> bytes:
    """Return a request for `target` as bytes; `asked` is the path of the original request. MARK stands for the credential."""
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in (*COMMON, ("X-Forwarded-Uri", asked), *headers))]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


@dataclass(slots=True)
class Requests:
    """A request with MARK in it, and a file with a credential to a line, the first `working_set` of which take turns.

    With `walks`, each credential of the file is shown once, from `position` on, which moves: no two requests are alike.
    """

    template: Path
    credentials: Path
    working_set: int
    walks: bool = False
    position: int = 0

    def take(self, start: int, count: int) -> Iterator[bytes]:
        """Yield whole requests with these credentials of the file."""
        text = self.template.read_bytes()
        with self.credentials.open("rb") as lines:
            for line in islice(lines, start, start + count):
                yield text.replace(MARK, line.removesuffix(b"\n"))

    def one_by_one(self) -> Iterator[bytes]:
        """Yield what is asked before each round: the working set, or the next credential that nobody has seen."""
        if not self.walks:
            return self.take(0, self.working_set)
        self.position += 1
        return self.take(self.position - 1, 1)

    def arguments(self) -> list[str]:
        """Return the words that tell load.lua."""
        if not self.walks:
            return [str(self.template), str(self.credentials), "rotate", str(self.working_set)]
        with self.credentials.open("rb") as lines:
            length = len(next(lines))  # of every line: tokens are of one length
        return [str(self.template), str(self.credentials), "walk", str(self.position * length)]


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk counted: answers, in how many seconds, how many of them 400 and above, and requests without an answer."""

    requests: int
    seconds: float
    refused: int
    failed: int
    sent: int
    ended: bool  # the credentials ran out
    p50: int  # microseconds
    p99: int

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds


def ask_each(port: int, requests: Iterable[bytes]) -> Counter[int]:
    """Make each request once, one after the other, and return how often each status was the answer. Raises BenchmarkError."""
    statuses: Counter[int] = Counter()
    connection = None
    try:
        for request in requests:
            connection = connection or socket.create_connection((HOST, port), timeout=30)
            connection.sendall(request)
            with HTTPResponse(connection, method="GET") as response:
                response.begin()
                response.read()
                statuses[response.status] += 1
                if response.will_close:
                    connection.close()
                    connection = None
    except (OSError, HTTPException) as error:
        raise BenchmarkError(f"No answer from port {port}: {type(error).__name__}: {error}") from error
    finally:
        if connection is not None:
            connection.close()
    return statuses


def require(port: int, requests: Iterable[bytes], expected: Sequence[int], who: str) -> None:
    """Make each request once. Raises BenchmarkError unless each is answered with one of the statuses expected."""
    statuses = ask_each(port, requests)
    if not statuses or set(statuses) - set(expected):
        seen = ", ".join(f"{count} times {status}" for status, count in sorted(statuses.items())) or "nothing"
        raise BenchmarkError(f"{who}: every answer should be {' or '.join(map(str, expected))}; there was {seen}.")


def drive(wrk: str, port: int, requests: Requests, seconds: int) -> Load:
    """Let wrk make all the requests it can, and return its counts; a walk continues where it ended. Raises BenchmarkError."""
    options = ["-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "--timeout", "10s", "-s", str(SCRIPT)]
    command = [wrk, *options, f"http://{HOST}:{port}/", "--", *requests.arguments()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + SECONDS_TO_SPARE, check=False)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"wrk did not end {SECONDS_TO_SPARE} seconds after its time.") from None
    if done.returncode:
        raise BenchmarkError(f"wrk ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    load = parse(done.stdout)
    requests.position += load.sent if requests.walks else 0
    return load


def parse(output: str) -> Load:
    """Return what load.lua wrote as its last line. Raises BenchmarkError."""
    last = output.strip().rpartition("\n")[2]
    try:
        return Load(**json.loads(last))
    except (ValueError, TypeError):
        raise BenchmarkError(f"wrk did not say what it counted. Its last words: {last!r}") from None


def check(load: Load, expected: int, who: str) -> None:
    """Raise BenchmarkError unless every request was answered, as expected, and no credential was shown twice in a walk."""
    wrong = load.refused if expected < 400 else load.requests - load.refused
    if not load.requests or load.failed or wrong:
        raise BenchmarkError(
            f"{who}: of {load.requests} answers {wrong} were not {expected}, and {load.failed} requests failed altogether."
        )
    if load.ended:
        raise BenchmarkError(f"{who}: there were fewer new credentials than requests; the figure would be one of old ones.")
