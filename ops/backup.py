"""Backups of the database, and restoring them: SQLite by its own backup, PostgreSQL with pg_dump and pg_restore."""

import os
import shutil
import sqlite3
import subprocess  # nosec B404
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection
from psycopg.conninfo import make_conninfo

from core.postgresql import restore_lock
from core.server_lock import held

_ARCHIVE: Final = b"PGDMP"  # how an archive of pg_dump begins
_SQLITE: Final = b"SQLite format 3\0"
_CONNECTION: Final = {"USER": "user", "HOST": "host", "PORT": "port", "NAME": "dbname"}
_OTHERS: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_CLOSING_SECONDS: Final = 3.0  # in which PostgreSQL forgets connections that were just closed
_NOT_OF_LIBPQ: Final = ("pool", "options", "connect_timeout")


def back_up(file: Path) -> None:
    """Write a backup into a new file that only its owner can read. Servers can run meanwhile. Raises CommandError."""
    if file.exists() or file.is_symlink():
        raise CommandError(f"{file} exists. Choose a new name: a backup never overwrites a file.")
    if not file.parent.is_dir():
        raise CommandError(f"The directory {file.parent} does not exist.")
    if is_empty():
        raise CommandError("The database has no tables, so there is nothing to back up. Check DATABASE_URL and DATA_DIR.")
    with _beside(file) as temporary:
        if connection.vendor == "sqlite":
            _copy(Path(settings.DATABASES["default"]["NAME"]), temporary)
        else:
            _run("pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={temporary}", f"--dbname={_conninfo()}")
        try:
            os.link(temporary, file)  # fails if somebody has created the file meanwhile
        except FileExistsError:
            raise CommandError(f"{file} exists. Choose a new name: a backup never overwrites a file.") from None


@contextmanager
def _beside(file: Path) -> Iterator[Path]:
    """Yield an empty file in the same directory, which is deleted at the end."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.touch(mode=0o600, exist_ok=False)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    """Copy a SQLite database, with what is only in its journal, in one transaction; check the copy. Raises CommandError."""
    with closing(sqlite3.connect(source, timeout=60)) as origin, closing(sqlite3.connect(target, timeout=5)) as copy:
        try:
            origin.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # so that the file is complete without others beside it
            problem = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
        except sqlite3.Error as error:
            raise CommandError(f"{source} cannot be copied: {error}.") from None
    if problem != "ok":
        raise CommandError(f"{source} is damaged: {problem}")


@contextmanager
def without_servers() -> Iterator[None]:
    """Run the block while no server uses the database, and none can start. Raises CommandError."""
    if connection.vendor == "sqlite":
        try:
            with held(Path(settings.DATABASES["default"]["NAME"]), alone=True):
                yield
        except BlockingIOError:
            raise CommandError("A server uses this database. Stop it first.") from None
        return
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined] # its connections are not others'
    with closing(psycopg.connect(_conninfo(), password=_password() or None)) as own:
        deadline = time.monotonic() + _CLOSING_SECONDS
        if not restore_lock.take(own, deadline):
            raise CommandError("Another restore of this database is running.")
        while others := own.execute(_OTHERS).fetchone()[0]:  # type: ignore[index]
            if time.monotonic() > deadline:
                raise CommandError(f"Other programs have {others} connections to this database. Stop all servers first.")
            time.sleep(0.1)
            own.execute("SELECT pg_stat_clear_snapshot()")  # in a transaction, the list of connections is read only once
        yield


def is_empty() -> bool:
    """Return whether the database has no tables."""
    return not connection.introspection.table_names()


def restore(file: Path, *, replace: bool) -> None:
    """Replace the content of the database by that of a backup, in one transaction.

    Raises CommandError, also if the database is not empty and `replace` is false.
    """
    _require_backup(file)
    if not replace and not is_empty():
        raise CommandError("The database is not empty. Make a backup of it, and add --replace to replace everything in it.")
    connection.close()
    if connection.vendor == "sqlite":
        _restore_sqlite(file, Path(settings.DATABASES["default"]["NAME"]))
        return
    options = ["--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error"]
    _run("pg_restore", *options, f"--dbname={_conninfo()}", str(file))


def _require_backup(file: Path) -> None:
    """Raise CommandError if the file is not a backup of the kind of database that SkyAuth uses."""
    try:
        with file.open("rb") as stream:
            beginning = stream.read(16)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.") from None
    kind = "SQLite" if beginning == _SQLITE else "PostgreSQL" if beginning.startswith(_ARCHIVE) else None
    if kind is None:
        raise CommandError(f"{file} is not a backup of SkyAuth. Choose a file that manage.py backup has written.")
    used = "SQLite" if connection.vendor == "sqlite" else "PostgreSQL"
    if kind != used:
        raise CommandError(
            f"{file} is a backup of {kind}, but SkyAuth uses {used} here. Check DATABASE_URL: a backup is restored into the same "
            "kind of database."
        )


def _restore_sqlite(file: Path, target: Path) -> None:
    """Copy a backup into the database, after the backup was checked. A program that still has it open sees the new content."""
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as backup:
            problem = backup.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if problem != "ok":
                raise CommandError(f"{file} is damaged: {problem}")
            with closing(sqlite3.connect(target, timeout=5)) as database:
                backup.backup(database)
                database.execute("PRAGMA journal_mode=WAL")
    except sqlite3.Error as error:
        raise CommandError(f"{file} cannot be restored: {error}. The database is unchanged.") from None


def also_needed() -> list[str]:
    """Return what else belongs to a backup: it is not in the database."""
    generated = settings.DATA_DIR / "secret_key"
    needed = [f"SECRET_KEY: {generated}" if generated.is_file() else "SECRET_KEY, where you set it"]
    needed += [f"a key of ASSERTION_KEYS: {path}" for path in settings.ASSERTION_KEYS]
    if (dotenv := settings.BASE_DIR / ".env").is_file():
        needed.append(f"settings: {dotenv}")
    return needed


def _conninfo() -> str:
    """Return how to connect, without the password: other users can read the arguments of a program."""
    database = settings.DATABASES["default"]
    parts: dict[str, Any] = {name: database[key] for key, name in _CONNECTION.items() if database.get(key)}
    parts |= {key: value for key, value in database["OPTIONS"].items() if key not in _NOT_OF_LIBPQ and isinstance(value, str)}
    parts.pop("password", None)
    return make_conninfo(**parts)


def _password() -> str:
    database = settings.DATABASES["default"]
    return str(database.get("PASSWORD") or database["OPTIONS"].get("password", ""))


def _run(program: str, *arguments: str) -> None:
    """Run a program of PostgreSQL. Raises CommandError with the first line of what it said."""
    path = shutil.which(program)
    if path is None:
        raise CommandError(f"{program} is not installed. Install PostgreSQL's client programs, of the server's version or newer.")
    password = _password()
    environment = {**os.environ, **({"PGPASSWORD": password} if password else {})}
    done = subprocess.run(  # noqa: S603 # nosec B603
        [path, "--no-password", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CommandError((done.stderr.strip().splitlines() or [f"{program} failed."])[0])
