"""`backup` and `restore`, on the database of a real server."""

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.databases import on_postgres
from tests.http_client import bearer
from tests.servers import ROOT, SkyAuth, directory, skyauth_server

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
    return subprocess.run(
        [sys.executable, "manage.py", *words], cwd=ROOT, env=server.environment, capture_output=True, text=True, check=False
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
    none = manage(server, "restore", str(home / "none"), "--replace")
    assert "cannot be read: No such file or directory." in none.stderr
    (home / "cut").write_bytes((b"PGDMP" if on_postgres() else b"SQLite format 3\0") + b"x" * 5_000)
    cut = manage(server, "restore", str(home / "cut"), "--replace")
    assert cut.returncode == 1
    assert "Traceback" not in cut.stderr
    assert manage(server, "migrate", "--check").returncode == 0


@pytest.mark.sqlite
def test_what_is_only_in_the_journal_is_in_the_backup(server: SkyAuth, home: Path) -> None:
    path = server.data / "skyauth.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as open_connection:
        open_connection.execute("PRAGMA wal_autocheckpoint=0")
        open_connection.execute("INSERT INTO django_content_type (app_label, model) VALUES ('only', 'in the journal')")
        assert manage(server, "backup", str(home / "backup")).returncode == 0
    with closing(sqlite3.connect(home / "backup")) as copy:
        assert copy.execute("SELECT count(*) FROM django_content_type WHERE app_label = 'only'").fetchone() == (1,)
