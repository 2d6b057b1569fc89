"""SkyAuth itself, with each kind of credential, on both databases, with few and many tokens and routes."""

import base64
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from accounts import token_format
from benchmarks.harness import Also, Harness, Subject
from benchmarks.load import HOST, Requests, template
from benchmarks.seed import PASSWORDS, PEOPLE, path_of
from tests.servers import SECRET_KEY, Program

VERIFY: Final = "/authz/verify"
WORKING_SET: Final = 1_000
CALLERS: Final = 10_000  # of a subject whose callers change
ROUTES: Final = 10
BEARER: Final = ("Authorization", "Bearer @@")
BASIC: Final = ("Authorization", "Basic @@")
PROXY: Final = ("X-Auth-Request-Email", "@@")
SESSION: Final = ("Cookie", "skyauth=@@")
REFUSED: Final = (401, 403)


@dataclass(frozen=True, slots=True)
class Shape:
    """Which SkyAuth: its database ("sqlite" or "postgresql"), and how much is in it."""

    database: str
    tokens: int
    routes: int = ROUTES

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"skyauth-{self.database}-{self.tokens}-{self.routes}"


@dataclass(frozen=True, slots=True)
class Served:
    """A SkyAuth with one worker, where it listens, and where the credentials for it are."""

    shape: Shape
    port: int
    program: Program
    data: Path

    def request(self, *headers: tuple[str, str], target: str = VERIFY) -> bytes:
        """Return a question about a path that the last route is the first to match."""
        return template(target, *headers, asked=path_of(self.shape.routes))

    def shown(self, header: tuple[str, str], credential: str) -> bytes:
        """Return a question with this credential."""
        return self.request((header[0], header[1].replace("@@", credential)))

    def first(self, name: str) -> str:
        """Return the first credential of a file."""
        with (self.data / name).open(encoding="ascii") as lines:
            return next(lines).strip()


def seed(harness: Harness, shape: Shape) -> dict[str, str]:
    """Return the settings of a SkyAuth of this shape, after seeding its database."""
    data = harness.folder(shape.name)
    settings = {"DATA_DIR": str(data), "TRUSTED_PROXIES": HOST, "AUTH_USER_HEADER_FORMAT": "plaintext", "LOG_LEVEL": "WARNING"}
    if shape.database == "postgresql":
        settings |= {"DATABASE_URL": harness.database(shape.name), "SECRET_KEY": SECRET_KEY}
    counts = ["--tokens", str(shape.tokens), "--routes", str(shape.routes)]
    harness.run(shape.name, [sys.executable, "-m", "benchmarks.seed", str(data), *counts], **settings)
    return settings


def seeded(harness: Harness, shape: Shape) -> dict[str, str]:
    """Return the settings of a SkyAuth of this shape, whose database is seeded once."""
    return harness.once(("seeded", shape), lambda: seed(harness, shape))


def served(harness: Harness, shape: Shape) -> Served:
    """Return the running SkyAuth of this shape, with one worker."""

    def start() -> Served:
        settings = seeded(harness, shape)
        port = harness.port()
        command = [sys.executable, "manage.py", "serve", "--host", HOST, "--port", str(port)]
        return Served(shape, port, harness.serve(shape.name, command, port, **settings), Path(settings["DATA_DIR"]))

    return harness.once(shape, start)


def _subject(
    harness: Harness, running: Served, header: tuple[str, str], file: str, *, bad: str, working_set: int = WORKING_SET
) -> Subject:
    """Return who is asked with good credentials of one kind, and before each round with a bad one."""
    path = harness.template(f"{running.shape.name}-{file}", running.request(header))
    requests = Requests(path, running.data / file, working_set)
    return Subject(running.port, requests, (running.program,), also=(Also(running.shown(header, bad), REFUSED),))


def bearer(harness: Harness, shape: Shape) -> Subject:
    """Return verify with tokens that were seen before."""
    return _subject(harness, served(harness, shape), BEARER, "tokens.txt", bad=token_format.mint().plaintext)


def changing(harness: Harness, shape: Shape, changes: int) -> Subject:
    """Return verify with CALLERS tokens that were seen before, while so many of them are changed each second."""
    running = served(harness, shape)
    path = harness.template(f"{shape.name}-changing", running.request(BEARER))
    requests = Requests(path, running.data / "tokens.txt", CALLERS)
    if not changes:
        return Subject(running.port, requests, (running.program,))
    command = [sys.executable, "-m", "benchmarks.changes", str(changes), str(CALLERS)]

    def during() -> AbstractContextManager[None]:
        return harness.beside("changes", command, **seeded(harness, shape))

    return Subject(running.port, requests, (running.program,), during=during)


def basic(harness: Harness, shape: Shape) -> Subject:
    """Return verify with passwords that are remembered."""
    wrong = base64.b64encode(b"person0@example.com:wrong").decode()
    return _subject(harness, served(harness, shape), BASIC, "passwords.txt", bad=wrong, working_set=PASSWORDS)


def proxy(harness: Harness, shape: Shape) -> Subject:
    """Return verify with users whom a trusted proxy names."""
    return _subject(harness, served(harness, shape), PROXY, "people.txt", bad="nobody", working_set=PEOPLE)


def session(harness: Harness, shape: Shape) -> Subject:
    """Return verify with the cookies of people who are signed in."""
    return _subject(harness, served(harness, shape), SESSION, "sessions.txt", bad="0" * 32, working_set=PEOPLE)


def miss(harness: Harness, shape: Shape) -> Subject:
    """Return verify with tokens none of which was ever shown; those that `bearer` shows are left out."""
    running = served(harness, shape)
    path = harness.template(f"{shape.name}-miss", running.request(BEARER))
    requests = Requests(path, running.data / "tokens.txt", 1, walks=True, position=WORKING_SET)
    also = (Also(running.shown(BEARER, token_format.mint().plaintext), REFUSED),)
    return Subject(running.port, requests, (running.program,), also=also)


def cycle(harness: Harness, shape: Shape) -> Subject:
    """Return verify with every token of a large database in turn: each was seen before, and long since put out of memory."""
    running = served(harness, shape)
    path = harness.template(f"{shape.name}-cycle", running.request(BEARER))
    return Subject(running.port, Requests(path, running.data / "tokens.txt", 1, walks=True), (running.program,))


def nobody(harness: Harness, shape: Shape) -> Subject:
    """Return verify without a credential: 401."""
    running = served(harness, shape)
    path = harness.template(f"{shape.name}-nobody", running.request())
    good = Also(running.shown(BEARER, running.first("tokens.txt")), (200,))
    return Subject(running.port, Requests(path, harness.lines("nobody", ""), 1), (running.program,), 401, (good,))


def unknown(harness: Harness, shape: Shape) -> Subject:
    """Return verify with tokens that have the right shape and checksum and that nobody was given: 401."""
    running = served(harness, shape)
    path = harness.template(f"{shape.name}-unknown", running.request(BEARER))
    invented = harness.lines("unknown", *(token_format.mint().plaintext for _ in range(WORKING_SET)))
    good = Also(running.shown(BEARER, running.first("tokens.txt")), (200,))
    return Subject(running.port, Requests(path, invented, WORKING_SET), (running.program,), 401, (good,))
