"""A running server after its data became older: no decision comes from what it cached before."""

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tests.http_client import bearer
from tests.requirements import need_program
from tests.servers import POSTGRESQL, SkyAuth, replica, skyauth_server

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("restore")]


@pytest.fixture
def server() -> Iterator[SkyAuth]:
    with skyauth_server() as running:
        running.console("create_user", name="bob@example.com", role="user")
        running.console("create_account", name="pipeline", role="user", owner="bob@example.com")
        yield running


def rename(server: SkyAuth, times: int) -> None:
    """Change the service account so often, past the services."""
    url = server.environment.get("DATABASE_URL")
    file = server.data / "skyauth.sqlite3"
    with closing(psycopg.connect(url, autocommit=True) if url else sqlite3.connect(file, isolation_level=None)) as connection:
        for n in range(times):
            connection.execute(f"UPDATE accounts_serviceaccount SET description = 'n{n}'")  # noqa: S608


def issue(server: SkyAuth) -> tuple[str, bytes]:
    return bearer(str(server.console("issue", account="pipeline")))


def statuses(server: SkyAuth, *credentials: tuple[str, bytes]) -> list[int]:
    return [int(server.ask(credential, uri="/jobs").status) for credential in credentials]


@pytest.mark.sqlite
def test_promise_54_a_token_that_a_restored_sqlite_file_lacks_is_refused(server: SkyAuth) -> None:
    """A new token does not change the policy revision, which is the same before and after."""
    old, file = issue(server), server.data / "skyauth.sqlite3"
    backup = server.data / "backup.sqlite3"
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    new = issue(server)
    assert [statuses(server, old, new) for _ in range(3)] == [[200, 200]] * 3
    backup.replace(file)
    for name in ("-wal", "-shm"):
        Path(f"{file}{name}").unlink(missing_ok=True)
    assert [statuses(server, old, new) for _ in range(3)] == [[200, 401]] * 3


@pytest.mark.sqlite
def test_promise_54_a_replaced_sqlite_file_beside_the_old_log_is_503(server: SkyAuth) -> None:
    old, file = issue(server), server.data / "skyauth.sqlite3"
    backup = server.data / "backup.sqlite3"
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    new = issue(server)
    assert statuses(server, old, new) == [200, 200]
    rename(server, times=1)  # an empty log would do no harm
    backup.replace(file)
    assert [statuses(server, old, new) for _ in range(3)] == [[503, 503]] * 3


@pytest.mark.postgres
def test_promise_54_a_token_that_a_restored_postgresql_lacks_is_refused(server: SkyAuth) -> None:
    old, url, backup = issue(server), server.environment["DATABASE_URL"], str(server.data / "backup")
    _run([need_program("pg_dump", hint=POSTGRESQL), "--format=custom", f"--file={backup}", url])
    new = issue(server)
    assert [statuses(server, old, new) for _ in range(3)] == [[200, 200]] * 3
    restore = [need_program("pg_restore", hint=POSTGRESQL), "--clean", "--if-exists", "--single-transaction", "--no-owner"]
    _run([*restore, f"--dbname={url}", backup])
    assert [statuses(server, old, new) for _ in range(3)] == [[200, 401]] * 3


def _run(command: list[str]) -> None:
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_promise_54_a_server_that_slept_longer_than_the_log_refuses_what_ended_meanwhile(server: SkyAuth) -> None:
    with replica(server) as sleeper:
        revoked, kept = issue(server), issue(server)
        assert statuses(sleeper, revoked, kept) == [200, 200]
        process = sleeper.programs[-1].process
        process.send_signal(signal.SIGSTOP)
        try:
            server.console("revoke", token=revoked[1].removeprefix(b"Bearer ").decode())
            rename(server, times=1_100)  # more than the log keeps
        finally:
            process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + 10
        while statuses(sleeper, kept) != [200]:
            assert time.monotonic() < deadline
        assert [statuses(sleeper, revoked, kept) for _ in range(3)] == [[401, 200]] * 3
