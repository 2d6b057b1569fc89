"""Faults while answers come from memory: nothing is let through that should not be, and all is well again without a restart."""

import fcntl
import os
import resource
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from accounts import token_format
from tests.e2e.test_freshness import Conversation, loaded
from tests.e2e.test_outage import held, machine
from tests.http_client import HOST, ask, basic, bearer
from tests.servers import SkyAuth, postgres, skyauth_server, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("faults")]


@contextmanager
def conversation(server: SkyAuth, credential: tuple[str, bytes]) -> Iterator[Conversation]:
    """Yield a conversation in which the caller is remembered."""
    with closing(Conversation(server, credential)) as kept:
        assert [kept.ask() for _ in range(3)] == [200] * 3
        yield kept


def recovered(kept: Conversation) -> None:
    """Wait until a remembered caller is let through again, over the connection that is there."""
    wait_until(lambda: kept.ask() == 200, "let through again", 15)


@contextmanager
def locked_for_readers(path: Path) -> Iterator[None]:
    """Hold the locks that SQLite's readers take in write-ahead mode (bytes 120 to 127 of the -shm file), as a recovery does."""
    with path.with_name(f"{path.name}-shm").open("r+b") as index:

        def taken() -> bool:
            with suppress(BlockingIOError):
                fcntl.lockf(index, fcntl.LOCK_EX | fcntl.LOCK_NB, 8, 120)
                return True
            return False

        wait_until(taken, "no reader is under way")
        try:
            yield
        finally:
            fcntl.lockf(index, fcntl.LOCK_UN, 8, 120)


@pytest.mark.sqlite
def test_promise_43_while_readers_are_locked_out_nobody_waits_for_long_and_nobody_new_is_let_through() -> None:
    with skyauth_server(DATABASE_TIMEOUT="1") as server:
        credential = bearer(machine(server))
        other = bearer(str(server.console("issue", account="pipeline")))
        with conversation(server, credential) as kept, ThreadPoolExecutor(4) as pool:
            with locked_for_readers(server.data / "skyauth.sqlite3"):
                began = time.monotonic()
                assert kept.ask() == 200, "nothing was committed since the caller was cached"
                asked = [pool.submit(server.ask, each) for each in (other, other, bearer("sky_x"), basic("bob@example.com", "x"))]
                for _ in range(10):  # while those wait
                    before = time.monotonic()
                    assert ask(server.port, "/healthz").status == 200
                    assert kept.ask() == 200
                    assert time.monotonic() - before < 1, "the event loop does not wait for SQLite"
                    time.sleep(0.1)
                assert ask(server.port, "/readyz").status == 503
                assert [answer.result(20).status for answer in asked] == [503] * 4, "also a failure that cannot be recorded"
                assert time.monotonic() - began < 10, "each request ends within its own time-out"
            recovered(kept)
            wait_until(lambda: server.ask(other).status == 200, "let through again", 15)


@pytest.mark.sqlite
def test_promise_14_a_change_while_readers_are_locked_out_counts_as_soon_as_it_is_committed() -> None:
    with skyauth_server(DATABASE_TIMEOUT="1") as server, conversation(server, bearer(machine(server))) as kept:
        path = server.data / "skyauth.sqlite3"
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("UPDATE accounts_token SET revoked_at = created_at")
            assert kept.ask() == 200, "not committed yet"
            writer.execute("COMMIT")
            with locked_for_readers(path):
                assert kept.ask() == 503, "what the change was cannot be read"
        wait_until(lambda: kept.ask() == 401, "the revoked token is refused again", 15)


@pytest.mark.sqlite
def test_a_writer_that_takes_longer_than_anybody_waits_stops_no_known_caller_and_lets_nobody_in() -> None:
    with skyauth_server(DATABASE_TIMEOUT="1") as server, conversation(server, bearer(machine(server))) as kept:
        with held(server.data / "skyauth.sqlite3", "BEGIN IMMEDIATE"):
            until = time.monotonic() + 3  # three times DATABASE_TIMEOUT
            while time.monotonic() < until:
                assert kept.ask() == 200
                assert server.ask(bearer(token_format.mint().plaintext)).status == 401
                assert server.ask(basic("bob@example.com", "wrong")).status == 503, "a failure that cannot be counted"
        assert server.ask(basic("bob@example.com", "wrong")).status == 401


@pytest.mark.sqlite
def test_promise_43_a_database_file_that_is_gone_or_another_one_is_no_remembered_yes() -> None:
    with skyauth_server(DATABASE_TIMEOUT="1") as server, conversation(server, bearer(machine(server))) as kept:
        path = server.data / "skyauth.sqlite3"
        for file in server.data.glob("skyauth.sqlite3*"):
            file.rename(file.with_name(f"kept-{file.name}"))
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE accounts_generation (id INTEGER, mark TEXT)")
            other.execute("INSERT INTO accounts_generation VALUES (1, 'x')")
            other.commit()
        answer = kept.ask()
        assert answer in {200, 503}
        if answer == 200:  # the threads' connections still have the file that was there, and ask it
            with closing(sqlite3.connect(server.data / "kept-skyauth.sqlite3")) as original:
                original.execute("UPDATE accounts_token SET revoked_at = created_at")
                original.commit()
            assert kept.ask() == 401


@pytest.mark.postgres
def test_promise_43_postgresql_stopped_and_started_under_load() -> None:
    with ExitStack() as stack:
        cluster = stack.enter_context(postgres())
        server = stack.enter_context(skyauth_server(DATABASE_URL=cluster.url, DATABASE_TIMEOUT="1"))
        credential = bearer(machine(server))
        kept = stack.enter_context(conversation(server, credential))
        with loaded((server,), credential, each=2) as load:
            time.sleep(0.5)
            cluster.stop()
            down = time.monotonic()
            assert kept.ask() == 503
            time.sleep(2)
            assert kept.ask() == 503
            up = time.monotonic()
            cluster.start()
            recovered(kept)
        assert load.statuses == {200, 503}, "trouble of ours is never the caller's 401"
        assert {status for sent, answered, status in load.seen if down < sent and answered < up} == {503}


@pytest.mark.postgres
def test_promise_43_a_lost_connection_is_503_or_made_anew_and_never_a_remembered_yes() -> None:
    with ExitStack() as stack:
        cluster = stack.enter_context(postgres())
        server = stack.enter_context(skyauth_server(DATABASE_URL=cluster.url, DATABASE_TIMEOUT="1"))
        kept = stack.enter_context(conversation(server, bearer(machine(server))))
        for _ in range(5):
            with psycopg.connect(cluster.url, autocommit=True) as operator:
                operator.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
                operator.execute("UPDATE accounts_serviceaccount SET is_active = false")
                assert kept.ask() in {401, 503}
                wait_until(lambda: kept.ask() == 401, "the revoked token is refused again")
                operator.execute("UPDATE accounts_serviceaccount SET is_active = true")
            recovered(kept)


@pytest.mark.sqlite
def test_a_full_disk_lets_known_callers_through_and_others_not_and_ends_when_there_is_room() -> None:
    with skyauth_server(DATABASE_TIMEOUT="1") as server, conversation(server, bearer(machine(server))) as kept:
        fresh = bearer(str(server.console("issue", account="pipeline")))
        pid = server.programs[-1].process.pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))  # no write to any file succeeds, as on a full disk
        try:
            assert [kept.ask() for _ in range(3)] == [200] * 3
            assert server.ask(fresh).status == 200, "its use cannot be noted, which fails no request"
            assert server.ask(bearer(token_format.mint().plaintext)).status == 401, "nor can a refusal be written down"
            assert server.ask().status == 401
            assert ask(server.port, "/sign-in").status == 200
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        server.console("revoke", token=fresh[1].decode().removeprefix("Bearer "))
        assert server.ask(fresh).status == 401
        assert kept.ask() == 200


def children(pid: int) -> list[int]:
    """Return the processes that a process started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def serving(pid: int) -> bool:
    """Return whether a process is a worker, and not the resource tracker that Python starts beside them."""
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_worker_killed_under_load_loses_no_committed_change_and_only_the_requests_it_held() -> None:
    with skyauth_server() as server:
        server.stop()
        server.start(workers=2)
        parent = server.programs[-1].process.pid
        token = machine(server)
        credential = bearer(token)
        wait_until(lambda: len([pid for pid in children(parent) if serving(pid)]) == 2, "two workers")
        failures = successes = 0
        connections = [Conversation(server, credential) for _ in range(12)]
        victim = next(pid for pid in children(parent) if serving(pid))
        try:
            doomed = str(server.console("issue", account="pipeline"))
            server.console("revoke", token=doomed)  # committed before the kill
            for turn in range(60):
                if turn == 20:
                    os.kill(victim, signal.SIGKILL)
                for index, kept in enumerate(connections):
                    try:
                        assert kept.ask() == 200
                        successes += 1
                    except (OSError, ValueError):  # the connection is gone, and with it the request that it held
                        failures += 1
                        kept.close()
                        connections[index] = Conversation(server, credential)
        finally:
            for kept in connections:
                kept.close()
        assert failures <= 12, "no more than one request for each connection"
        assert successes >= 60 * 12 - 12
        assert server.ask(bearer(doomed)).status == 401
        wait_until(lambda: len([pid for pid in children(parent) if serving(pid)]) == 2, "another worker took its place")
        assert victim not in children(parent)
        assert server.ask(credential).status == 200


def test_slow_clients_hold_nobody_up() -> None:
    with skyauth_server() as server, conversation(server, bearer(machine(server))) as kept:
        slow = []
        try:
            for n in range(300):
                connection = socket.create_connection((HOST, server.port), timeout=10)
                connection.sendall(b"" if n % 3 == 0 else b"GET /authz/verify HTTP/1.1\r\nHost: h\r\nX-Slow: a")
                slow.append(connection)
            assert [kept.ask() for _ in range(50)] == [200] * 50
            assert server.ask().status == 401
            slow[0].settimeout(20)
            assert slow[0].recv(1) == b"", "a client that says nothing at all is not waited for either"
        finally:
            for connection in slow:
                connection.close()
