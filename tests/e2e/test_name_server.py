"""PostgreSQL is found by a name, and the name server stops answering: connections go on to the address that it had."""

import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from accounts import token_format
from tests.e2e.test_outage import machine, unavailable
from tests.http_client import HOST, ask, bearer
from tests.requirements import need_program
from tests.servers import ROOT, Postgres, SkyAuth, directory, postgres, skyauth_server, start, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.postgres, pytest.mark.xdist_group("name-server")]

NAME = "database.example.test"
ADDRESS = "127.0.0.77"  # of the name server
TIMEOUT = 2  # DATABASE_TIMEOUT
SILENCE = 10  # seconds for which getaddrinfo waits by default


@dataclass
class NameServer:
    """Answers each question for an IPv4 address with that of this machine, and others with no address, until it is silent."""

    silent: bool = False
    asked: int = 0
    thread: threading.Thread | None = field(default=None, repr=False)

    def serve(self, udp: socket.socket) -> None:
        with suppress(OSError):
            while True:
                query, client = udp.recvfrom(512)
                self.asked += 1
                if not self.silent:
                    udp.sendto(self._answer(query), client)

    @staticmethod
    def _answer(query: bytes) -> bytes:
        """Return a response (RFC 1035): the question, and an A record where it asks for one."""
        end = query.index(b"\0", 12) + 5
        is_a = query[end - 4 : end - 2] == b"\0\1"
        record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(HOST) if is_a else b""
        return query[:2] + b"\x81\x80\0\1\0" + bytes([is_a]) + b"\0\0\0\0" + query[12:end] + record


@dataclass
class Lab:
    """A SkyAuth that finds its PostgreSQL through a name server of the test's own."""

    cluster: Postgres
    names: NameServer
    server: SkyAuth
    home: Path
    token: str = ""

    def command(self, *words: str) -> list[str]:
        """Return a command in a mount namespace with a resolv.conf of its own."""
        mounts = [f"mount --bind {shlex.quote(str(self.home / name))} /etc/{name}" for name in ("resolv.conf", "nsswitch.conf")]
        script = " && ".join([*mounts, shlex.join(["exec", sys.executable, "manage.py", *words])])
        return [need_program("unshare", hint="install util-linux"), "--mount", "sh", "-c", script]

    def lose_connections(self) -> None:
        with closing(psycopg.connect(self.cluster.url, autocommit=True)) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '% server %@%'"
            )

    def ask(self) -> int:
        """Return the status for a known token: 200, or the 503 of trouble that is ours."""
        reply = self.server.ask(bearer(self.token))
        assert reply.status == 200 or unavailable(reply), reply
        return int(reply.status)

    def ask_database(self) -> int:
        return int(self.server.ask(bearer(token_format.mint().plaintext)).status)


@contextmanager
def name_server() -> Iterator[NameServer]:
    names = NameServer()
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as udp:
        try:
            udp.bind((ADDRESS, 53))
        except PermissionError:
            pytest.skip("Only root can listen on port 53.")
        names.thread = threading.Thread(target=names.serve, args=(udp,), daemon=True)
        names.thread.start()
        yield names


@pytest.fixture(scope="module")
def running() -> Iterator[Lab]:
    with ExitStack() as stack:
        home = stack.enter_context(directory())
        names, cluster = stack.enter_context(name_server()), stack.enter_context(postgres())
        (home / "resolv.conf").write_text(f"nameserver {ADDRESS}\n")
        (home / "nsswitch.conf").write_text("hosts: dns\n")
        server = stack.enter_context(skyauth_server(DATABASE_URL=cluster.url, DATABASE_TIMEOUT=str(TIMEOUT)))
        token = machine(server)
        server.stop()
        server.environment["DATABASE_URL"] = f"postgres://postgres@{NAME}:{cluster.port}/postgres"
        lab = Lab(cluster, names, server, home, token)
        serve = lab.command("serve", "--host", HOST, "--port", str(server.port), "--drain", "0")
        server.programs.append(start(serve, server.data / "skyauth.log", server.environment))
        server.programs[-1].wait_for(server.port)
        assert names.asked > 0
        yield lab


@pytest.fixture
def lab(running: Lab) -> Lab:
    running.names.silent = False
    wait_until(lambda: running.ask() == 200 and running.ask_database() == 401, "all is well", 60)
    return running


def test_promise_53_new_connections_are_made_while_the_name_server_is_silent(lab: Lab) -> None:
    lab.names.silent = True
    asked = lab.names.asked
    lab.lose_connections()
    started = time.monotonic()
    wait_until(lambda: lab.ask() == 200 and lab.ask_database() == 401, "decisions continue", 60)
    took = time.monotonic() - started
    assert took < SILENCE - 2, f"it took {took:.1f} seconds"
    assert lab.names.asked > asked, "the name server was asked"
    wait_until(lambda: ask(lab.server.port, "/readyz").status == 200, "ready", 10)


def test_promise_53_the_loss_of_the_database_and_of_the_name_server_is_known_and_ends_when_the_database_is_back(lab: Lab) -> None:
    lab.names.silent = True
    began = len(lab.server.log)
    lab.cluster.stop()
    wait_until(lambda: lab.ask() == 503 and "The database is lost: " in lab.server.log[began:], "the loss is known", SILENCE - 2)
    for _ in range(5):
        started = time.monotonic()
        assert (lab.ask(), lab.ask_database()) == (503, 503)
        assert time.monotonic() - started < 2 * TIMEOUT
    lab.cluster.start()
    wait_until(lambda: lab.ask() == 200 and lab.ask_database() == 401, "decisions continue", 60)
    assert lab.names.silent


def test_promise_53_a_process_that_never_had_an_address_ends_in_time(lab: Lab) -> None:
    lab.names.silent = True
    started = time.monotonic()
    ended = subprocess.run(
        lab.command("list_tokens"),
        cwd=ROOT,
        env=lab.server.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    took = time.monotonic() - started
    assert ended.returncode == 1, ended
    assert "Traceback" not in ended.stderr
    assert took < SILENCE, f"it took {took:.1f} seconds: {ended.stderr}"
