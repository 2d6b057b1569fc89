"""Django's `migrate`, which one process at a time runs: of several replicas that start together, one migrates."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from django.core.management.commands import migrate
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ops import direct_connection

if TYPE_CHECKING:
    import psycopg

_LOCK: Final = 5_790_338_120_471_733_001  # an arbitrary number: PostgreSQL's advisory locks have no names
_POLL_SECONDS: Final = 0.2


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        with _lock(connections[options["database"]], self._say_that_it_waits if options["verbosity"] else lambda: None):
            super().handle(*args, **options)

    def _say_that_it_waits(self) -> None:
        self.stderr.write("Another process is migrating this database. Waiting for it.")


@contextmanager
def _lock(on: BaseDatabaseWrapper, say_that_it_waits: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of the database's migrations. The operating system or PostgreSQL releases it if this process is killed."""
    if on.vendor == "sqlite":
        if on.is_in_memory_db():  # type: ignore[attr-defined]
            yield
            return
        directory = os.open(Path(str(on.settings_dict["NAME"])).parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _wait(lambda: _try_directory(directory), say_that_it_waits)
            yield
        finally:
            os.close(directory)
        return
    with direct_connection.connect(on) as session:  # ends, and with it the lock, when the block ends
        _wait(lambda: _try_postgresql(session), say_that_it_waits)
        yield


def _wait(attempt: Callable[[], bool], say_that_it_waits: Callable[[], None]) -> None:
    if attempt():
        return
    say_that_it_waits()
    while not attempt():
        time.sleep(_POLL_SECONDS)


def _try_directory(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _try_postgresql(session: "psycopg.Connection[Any]") -> bool:
    row = session.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK]).fetchone()
    return row is not None and bool(row[0])
