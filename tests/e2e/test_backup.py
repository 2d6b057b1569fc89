"""`backup` and `restore`, on the database of a real server."""

import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.databases import on_postgres
from tests.e2e.test_outage import held
from tests.http_client import bearer
from tests.servers import (
    ROOT,
    Postgres,
    SkyAuth,
    database,
    directory,
    environment,
    free_port,
    postgres,
    skyauth_server,
    wait_until,
)

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("backup")]


@pytest.fixture(scope="module")
def server() -> Iterator[SkyAuth]:
    with skyauth_server() as server:
        yield server


@pytest.fixture
def home() -> Iterator[Path]:
    with directory() as home:
        yield home


def manage(server: SkyAuth, *words: str) -> "subprocess.CompletedProcess[str]":
    return alone(server, "manage.py", *words)


def alone(server: SkyAuth, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with the server's settings. A program that serves, and does not end, fails the test."""
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=server.environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_a_backup_of_a_running_server_is_restored_with_everything_in_it(server: SkyAuth, home: Path) -> None:
    file = home / "backup"
    server.console("create_account", name="kept", role="viewer")
    kept = bearer(server.console("issue", account="kept"))
    assert server.ask(kept).status == 200

    made = manage(server, "backup", str(file))
    assert made.returncode == 0, made.stderr
    assert "SECRET_KEY" in made.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in home.iterdir()] == ["backup"]

    content = file.read_bytes()
    again = manage(server, "backup", str(file))
    assert again.returncode == 1
    assert "never overwrites a file" in again.stderr
    assert file.read_bytes() == content

    server.console("create_account", name="later", role="viewer")
    later = bearer(server.console("issue", account="later"))
    assert server.ask(later).status == 200

    running = manage(server, "restore", str(file), "--replace")
    assert running.returncode == 1
    assert "Stop" in running.stderr
    assert server.ask(later).status == 200

    server.stop()
    server.console.close()
    if not on_postgres():
        journal = server.data / "skyauth.sqlite3-wal"
        assert not journal.exists() or journal.stat().st_size == 0
    asked = manage(server, "restore", str(file))
    assert asked.returncode == 1
    assert "add --replace" in asked.stderr
    done = manage(server, "restore", str(file), "--replace")
    assert done.returncode == 0, done.stderr
    assert manage(server, "migrate", "--check").returncode == 0
    server.start()
    assert server.ask(kept).status == 200
    assert server.ask(later).status == 401


def test_a_file_that_is_no_backup_changes_nothing(server: SkyAuth, home: Path) -> None:
    server.stop()
    server.console.close()
    (home / "text").write_text("not a database")
    refused = manage(server, "restore", str(home / "text"), "--replace")
    assert refused.returncode == 1
    assert "is not a backup of" in refused.stderr
    for options in ((), ("--replace",)):
        none = manage(server, "restore", str(home / "none"), *options)
        assert "cannot be read: No such file or directory." in none.stderr
    (home / "other").write_bytes(b"SQLite format 3\0" if on_postgres() else b"PGDMP")
    other = manage(server, "restore", str(home / "other"), "--replace")
    assert "Check DATABASE_URL" in other.stderr
    (home / "cut").write_bytes((b"PGDMP" if on_postgres() else b"SQLite format 3\0") + b"x" * 5_000)
    cut = manage(server, "restore", str(home / "cut"), "--replace")
    assert cut.returncode == 1
    assert "Traceback" not in cut.stderr
    assert manage(server, "migrate", "--check").returncode == 0


def test_a_database_without_tables_is_not_backed_up(home: Path) -> None:
    """A scheduled backup with a wrong DATA_DIR would otherwise succeed every day."""
    with database() as where:
        values = environment(DATA_DIR=str(home / "data"), **where)
        command = [sys.executable, "manage.py", "backup", str(home / "backup")]
        made = subprocess.run(command, cwd=ROOT, env=values, capture_output=True, text=True, check=False, timeout=120)
    assert made.returncode == 1
    assert "has no tables" in made.stderr
    assert not (home / "backup").exists()


@pytest.mark.sqlite
def test_what_is_only_in_the_journal_is_in_the_backup(server: SkyAuth, home: Path) -> None:
    path = server.data / "skyauth.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as open_connection:
        open_connection.execute("PRAGMA wal_autocheckpoint=0")
        open_connection.execute("INSERT INTO django_content_type (app_label, model) VALUES ('only', 'in the journal')")
        assert manage(server, "backup", str(home / "backup")).returncode == 0
    with closing(sqlite3.connect(home / "backup")) as copy:
        assert copy.execute("SELECT count(*) FROM django_content_type WHERE app_label = 'only'").fetchone() == (1,)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres]:
    """A PostgreSQL that keeps the locks of prepared transactions, which belong to no connection."""
    with postgres() as cluster:
        with closing(psycopg.connect(cluster.url, autocommit=True)) as connection:
            connection.execute("ALTER SYSTEM SET max_prepared_transactions = 5")
            connection.execute("ALTER SYSTEM SET idle_in_transaction_session_timeout = '1s'")
        cluster.stop()
        cluster.start()
        yield cluster


@pytest.mark.postgres
def test_a_server_that_starts_during_a_restore_is_refused(cluster: Postgres, home: Path) -> None:
    with skyauth_server(DATABASE_URL=cluster.url) as server:
        made = manage(server, "backup", str(home / "backup"))
        assert made.returncode == 0, made.stderr
        server.stop()
        server.console.close()
        with restore_that_waits(server, cluster, home / "backup") as restore:
            time.sleep(2)  # longer than PostgreSQL lets other transactions be idle
            for workers in (1, 2):
                refused = manage(server, "serve", "--port", str(free_port()), "--workers", str(workers))
                assert refused.returncode == 1
                assert "manage.py restore is replacing the database. Wait until it has ended." in refused.stderr
            second = manage(server, "restore", str(home / "backup"), "--replace")
            assert second.returncode == 1
            assert "Another restore of this database is running." in second.stderr
            assert restore.poll() is None
        assert restore.returncode == 0
        server.start(workers=2)
        assert server.ask().status == 401


@pytest.mark.postgres
def test_a_worker_that_starts_during_a_restore_ends_with_a_message(cluster: Postgres, home: Path) -> None:
    """As when the restore begins between the checks of `serve` and the start of its worker."""
    with skyauth_server(DATABASE_URL=cluster.url) as server:
        assert manage(server, "backup", str(home / "backup")).returncode == 0
        server.stop()
        server.console.close()
        with restore_that_waits(server, cluster, home / "backup"):
            started = alone(server, "-m", "uvicorn", "--lifespan", "on", "--port", str(free_port()), "skyauth.asgi:application")
        assert started.returncode == 3
        assert "manage.py restore is replacing the database." in started.stderr


@contextmanager
def restore_that_waits(server: SkyAuth, cluster: Postgres, file: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a restore that waits for the lock of a table, which it gets at the end of the block."""
    with closing(psycopg.connect(cluster.url, autocommit=True)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM accounts_user")
        connection.execute("PREPARE TRANSACTION 'reader'")
    command = [sys.executable, "manage.py", "restore", str(file), "--replace"]
    with subprocess.Popen(command, cwd=ROOT, env=server.environment) as restore:
        try:
            with closing(psycopg.connect(cluster.url, dbname="template1", autocommit=True)) as connection:
                waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_restore' AND wait_event_type = 'Lock'"
                wait_until(lambda: connection.execute(waits).fetchone() == (1,), "the restore waits")
            yield restore
        finally:
            with closing(psycopg.connect(cluster.url, autocommit=True)) as connection:
                connection.execute("ROLLBACK PREPARED 'reader'")


@pytest.mark.postgres
def test_no_restore_begins_while_a_server_runs_that_never_had_a_request(cluster: Postgres, home: Path) -> None:
    with skyauth_server(DATABASE_URL=cluster.url) as server:
        assert manage(server, "backup", str(home / "backup")).returncode == 0
        server.console.close()
        for workers in (1, 2):
            server.stop()
            began = len(server.log)
            server.start(workers=workers)
            wait_until(partial(serves, server, began, workers), "the workers serve")
            refused = manage(server, "restore", str(home / "backup"), "--replace")
            assert refused.returncode == 1
            assert "connections to this database. Stop all servers first." in refused.stderr


def serves(server: SkyAuth, began: int, workers: int) -> bool:
    """Return whether so many workers have started since the log had this length."""
    return server.log[began:].count("Application startup complete") == workers


@pytest.mark.sqlite
def test_a_command_that_waits_too_long_for_a_lock_names_the_lock() -> None:
    """The database is the right one and is migrated, so the message does not send the operator there."""
    with skyauth_server(DATABASE_TIMEOUT="1") as server, held(server.data / "skyauth.sqlite3", "BEGIN IMMEDIATE"):
        refused = manage(server, "create_service_account", "late", "--role", "viewer")
    assert refused.returncode == 1
    assert "Another program holds a lock on the database" in refused.stderr
    assert "migrate" not in refused.stderr
