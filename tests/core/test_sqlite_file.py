"""The files of an SQLite database that are removed or replaced while connections are open."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from core import sqlite_file
from core.sqlite_file import Connection, Identity

COMMIT = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('INSERT INTO seen VALUES (2)'); c.commit()"


def connect(path: Path) -> tuple[Connection, Identity | None]:
    """Open a connection as SkyAuth does."""
    files = sqlite_file.check(path)
    connection = sqlite3.connect(path, factory=Connection, isolation_level=None)
    connection.execute("SELECT * FROM seen").fetchall()
    return connection, sqlite_file.opened(path, files, connection)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A database with a row in its write-ahead log, which nobody has open."""
    path = tmp_path / "db.sqlite3"
    with closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("CREATE TABLE seen (n)")
        made.commit()
    yield path
    sqlite_file._opened.pop(path, None)
    sqlite_file._names.pop(path, None)


def rows(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as other:
        return [n for (n,) in other.execute("SELECT n FROM seen ORDER BY n")]


def test_connections_share_the_files_until_the_last_one_is_closed(path: Path) -> None:
    first, files = connect(path)
    second, same = connect(path)
    assert files is not None
    assert files == same == sqlite_file.identity(path)
    first.close()
    second.close()
    assert sqlite_file.identity(path) == (files.database, None, None), "SQLite removed the log"
    third, others = connect(path)
    assert others == sqlite_file.identity(path)
    third.close()


@pytest.mark.parametrize("ending", ["-shm", "-wal"])
def test_no_connection_is_opened_while_one_uses_a_removed_journal(path: Path, ending: str) -> None:
    first, files = connect(path)
    first.execute("INSERT INTO seen VALUES (1)")
    Path(f"{path}{ending}").unlink()
    assert files != sqlite_file.identity(path)
    with pytest.raises(sqlite3.OperationalError, match=f"db.sqlite3{ending} was removed or replaced"):
        connect(path)
    first.close()
    second, _ = connect(path)
    assert second.execute("SELECT n FROM seen").fetchall() == [(1,)], "what it had committed is kept"
    second.close()


def test_what_another_process_committed_after_the_index_was_removed_is_kept(path: Path) -> None:
    first, _ = connect(path)
    first.execute("INSERT INTO seen VALUES (1)")
    Path(f"{path}-shm").unlink()
    subprocess.run([sys.executable, "-c", COMMIT, str(path)], check=True)
    first.close()  # the last connection, with an index in which the commit is not
    assert rows(path) == [1, 2]
    second, _ = connect(path)
    second.close()
    assert rows(path) == [1, 2]
    assert not Path(f"{path}-wal").exists(), "the lock was released: the last connection removes the log again"


def test_a_connection_that_is_collected_is_closed_in_the_same_way(path: Path) -> None:
    first, _ = connect(path)
    Path(f"{path}-shm").unlink()
    subprocess.run([sys.executable, "-c", COMMIT, str(path)], check=True)
    del first  # which is in a reference cycle
    second, _ = connect(path)
    second.close()
    assert rows(path) == [2]


def test_a_connection_whose_database_is_replaced_while_it_opens_is_not_used(path: Path, tmp_path: Path) -> None:
    files = sqlite_file.check(path)
    with closing(sqlite3.connect(path, factory=Connection)) as connection:
        path.rename(tmp_path / "former.sqlite3")
        assert sqlite_file.opened(path, files, connection) is None


def test_a_link_that_leads_elsewhere_is_refused(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    sqlite_file.follow(path, link)
    connection, files = connect(path)
    link.unlink()
    link.symlink_to(tmp_path)
    assert files != sqlite_file.identity(path)
    with pytest.raises(sqlite3.OperationalError, match="leads to another file"):
        sqlite_file.check(path)
    link.unlink()
    with pytest.raises(sqlite3.OperationalError, match="is gone"):
        sqlite_file.check(path)
    connection.close()
