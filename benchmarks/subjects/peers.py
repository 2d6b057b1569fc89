"""Other ways to ask who is calling, each an ordinary Django project on granian, the fastest server that Django runs on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.harness import Also, Harness, Subject
from benchmarks.load import HOST, Requests, template
from benchmarks.subjects.skyauth import REFUSED, WORKING_SET
from tests.servers import Program


@dataclass(frozen=True, slots=True)
class Peer:
    """A package: what `urls.VIEWS` calls it, the scheme before its token, and a token that it never gave."""

    name: str
    scheme: str
    invented: str


# Tried: 1, 2 and 4. Threads that wait for nothing fight for the interpreter; those that wait for PostgreSQL let others run.
THREADS: Final = {"sqlite": 1, "postgresql": 4}
DRF: Final = Peer("drf", "Token", "0" * 40)
KNOX: Final = Peer("knox", "Token", "0" * 64)
API_KEY: Final = Peer("api-key", "Api-Key", "00000000." + "0" * 32)


def granian(harness: Harness, name: str, application: str, port: int, *, threads: int = 1, **settings: str) -> Program:
    """Start granian with one worker and so many threads for Python."""
    server = Path(harness.tools.peers).with_name("granian")
    options = ["--interface", "wsgi", "--host", HOST, "--port", str(port), "--workers", "1", "--blocking-threads", str(threads)]
    return harness.serve(name, [str(server), *options, "--http", "1", "--no-ws", application], port, **settings)


def peer(harness: Harness, which: Peer, database: str) -> Subject:
    """Return one authenticated GET with the tokens of a package, on SQLite or PostgreSQL."""
    name = f"{which.name}-{database}"
    where = str(harness.home / f"{name}.sqlite3")
    if database == "postgresql":
        harness.database(name)
        where = f"{harness.cluster().port}/{name}"
    settings = {"PEER": which.name, "DATABASE": where}
    shown = harness.home / f"{name}.txt"
    seeding = [harness.tools.peers, "-m", "benchmarks.sites.peers.seed", str(shown), "--tokens", str(harness.few)]
    harness.run(name, seeding, **settings)
    port = harness.port()
    program = granian(harness, name, "benchmarks.sites.peers.wsgi:application", port, threads=THREADS[database], **settings)
    request = template("/", ("Authorization", f"{which.scheme} @@"), asked="/")
    requests = Requests(harness.template(name, request), shown, WORKING_SET)
    return Subject(port, requests, (program,), also=(Also(request.replace(b"@@", which.invented.encode()), REFUSED),))
