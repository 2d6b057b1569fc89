"""Several things at once, on real connections: what a single test transaction cannot show."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, connections

from rbac.models import Role


@pytest.fixture
def separate_connections(transactional_db: None, tmp_path: Path) -> Iterator[None]:
    """A database on which every thread has a connection of its own, with the seeded roles and nothing else in it.

    For SQLite it is a file: a shared database in memory locks whole tables and knows no waiting. For PostgreSQL it is the test
    database, which pytest-django empties afterwards.
    """
    _seed()
    if connection.vendor != "sqlite":
        yield
        return
    with _copy_on_disk(tmp_path / "copy.sqlite3"):
        yield


def _seed() -> None:
    """Make the roles that come with SkyAuth, which an emptied database has lost."""
    if not Role.objects.exists():
        import_module("rbac.migrations.0002_seed_roles").seed(apps, None)
        import_module("rbac.migrations.0005_own_password").grant(apps, None)


@contextmanager
def _copy_on_disk(path: Path) -> Iterator[None]:
    """Make the default connection, in this thread and in new ones, one to a copy of the test database in a file."""
    connection.ensure_connection()
    original, name = connection.connection, connection.settings_dict["NAME"]
    with closing(sqlite3.connect(path)) as copy:
        original.backup(copy)
    connection.connection = None
    connection.settings_dict["NAME"] = str(path)
    try:
        connection.ensure_connection()  # makes the file a WAL one, which threads that come at once could not
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = name
        connection.connection = original


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run the calls in threads that start together; return what each returned, or the exception it raised."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        try:
            connection.ensure_connection()
        except BaseException:
            start.abort()
            raise
        try:
            start.wait(30)
            return call()
        except Exception as error:  # noqa: BLE001 - what is raised is what is tested
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))
