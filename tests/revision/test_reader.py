"""The shared read of the policy revision: no caller gets one that is older than its call."""

import asyncio
import shutil
import sqlite3
import threading
from contextlib import closing

import pytest
from django.db import connection

from accounts.models import GroupRole, PolicyRevision
from rbac.models import Role
from revision import reader as reader_module
from revision.reader import PostgresSource, RevisionReader, SqliteSource
from tests.races import separate_connections

__all__ = ["separate_connections"]


class HeldSource:
    """A source whose reads end when the test calls the callback."""

    def __init__(self):
        self.callbacks = []

    def begin(self, callback):
        self.callbacks.append(callback)

    def close(self):
        pass


async def run_loop(count=3):
    """Let the event loop run what is scheduled."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_one_read_serves_all_callers_that_waited_when_it_began():
    async def scenario():
        source, received = HeldSource(), []
        reader = RevisionReader(lambda: source)
        for name in "abc":
            reader.read(lambda revision, name=name: received.append((name, revision)))
        await run_loop()
        assert len(source.callbacks) == 1
        source.callbacks[0]("m")
        assert received == [("a", "m"), ("b", "m"), ("c", "m")]

    asyncio.run(scenario())


def test_promise_14_a_call_during_a_read_waits_for_the_next_read():
    async def scenario():
        source, received = HeldSource(), []
        reader = RevisionReader(lambda: source)
        reader.read(lambda revision: received.append(("early", revision)))
        await run_loop()
        reader.read(lambda revision: received.append(("late", revision)))
        await run_loop()
        assert len(source.callbacks) == 1
        source.callbacks[0]("old")
        await run_loop()
        assert received == [("early", "old")]
        assert len(source.callbacks) == 2
        source.callbacks[1]("new")
        assert received == [("early", "old"), ("late", "new")]

    asyncio.run(scenario())


def test_a_call_from_a_callback_waits_for_the_next_read():
    async def scenario():
        source, received = HeldSource(), []
        reader = RevisionReader(lambda: source)
        reader.read(lambda _: reader.read(received.append))
        await run_loop()
        source.callbacks[0]("old")
        assert received == []
        await run_loop()
        source.callbacks[1]("new")
        assert received == ["new"]

    asyncio.run(scenario())


def test_every_call_is_answered_in_any_order():
    async def scenario():
        class Late(HeldSource):
            def begin(self, callback):
                asyncio.get_running_loop().call_later(0.001, callback, "m")

        reader = RevisionReader(Late)

        async def ask(n):
            await asyncio.sleep(n % 7 / 2_000)
            return await reader.revision()

        assert await asyncio.gather(*(ask(n) for n in range(200))) == ["m"] * 200

    asyncio.run(scenario())


def test_a_callback_that_fails_does_not_stop_the_others(caplog):
    async def scenario():
        source, received = HeldSource(), []
        reader = RevisionReader(lambda: source)
        reader.read(lambda _: received[7])
        reader.read(received.append)
        await run_loop()
        source.callbacks[0]("m")
        assert received == ["m"]

    asyncio.run(scenario())
    assert "failed after the policy revision was read" in caplog.text


def test_a_source_that_cannot_read_gives_none():
    async def scenario():
        class Broken(HeldSource):
            def begin(self, callback):
                callback(None)

        assert await RevisionReader(Broken).revision() is None

    asyncio.run(scenario())


@pytest.mark.sqlite
def test_sqlite_reads_the_current_revision(separate_connections):
    async def scenario():
        reader = RevisionReader()
        revisions = [await reader.revision()]
        await asyncio.to_thread(_change, "dev")
        revisions += [await reader.revision(), await reader.revision()]
        reader.close()
        revisions.append(await reader.revision())
        reader.close()
        return revisions

    before, *after = asyncio.run(scenario())
    assert before
    assert after == [PolicyRevision.objects.get().value] * 3
    assert before not in after


def test_a_locked_or_replaced_sqlite_file_gives_none_without_waiting(tmp_path):
    path = tmp_path / "file.sqlite3"

    def read(source):
        received = []
        source.begin(received.append)
        return received

    source = SqliteSource(str(path))
    assert read(source) == [None], "there is no such table"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("CREATE TABLE accounts_generation (id INTEGER, mark TEXT)")
        assert read(source) == [None], "there is no revision"
        writer.execute("INSERT INTO accounts_generation VALUES (1, 'm')")
        assert read(source) == ["m"]
        writer.execute("BEGIN EXCLUSIVE")
        assert read(source) == [None]
        writer.execute("ROLLBACK")
        assert read(source) == ["m"]
    kept = path.rename(tmp_path / "kept.sqlite3")
    assert read(source) == [None], "the file is gone"
    shutil.copy(kept, path)
    assert read(source) == [None], "another file is in its place"
    kept.rename(path)
    assert read(source) == ["m"]
    source.close()


def _change(group):
    try:
        GroupRole.objects.create(group=group, role=Role.objects.get(name="user"))
    finally:
        connection.close()


@pytest.mark.postgres
def test_postgresql_reads_the_revision_and_reconnects_after_a_lost_connection(separate_connections, monkeypatch):
    monkeypatch.setattr(reader_module, "_RECONNECT_SECONDS", 0.01)

    async def until_read(reader):
        for _ in range(500):
            if (revision := await reader.revision()) is not None:
                return revision
            await asyncio.sleep(0.01)
        raise AssertionError("the revision was never read")

    async def scenario():
        sources = []
        reader = RevisionReader(lambda: sources.append(PostgresSource()) or sources[-1])
        assert await reader.revision() is None, "the first call does not wait for the connection"
        first = await until_read(reader)
        await asyncio.to_thread(_change, "dev")
        second = await reader.revision()
        assert second not in (None, first)
        descriptor, connect = sources[0]._descriptor, sources[0]._connect
        monkeypatch.setattr(sources[0], "_connect", lambda: None)  # or a new connection may have the old one's descriptor
        await asyncio.to_thread(_end, sources[0]._connection.info.backend_pid)
        assert await reader.revision() is None, "a lost connection gives no revision"
        assert not asyncio.get_running_loop().remove_reader(descriptor), (
            "its descriptor is not watched: a client's connection can get it next"
        )
        monkeypatch.setattr(sources[0], "_connect", connect)
        assert await until_read(reader) == second
        reader.close()

    asyncio.run(scenario())


def _end(pid):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    connection.close()


@pytest.mark.postgres
def test_a_postgresql_that_does_not_answer_gives_none_after_the_time_out(separate_connections, monkeypatch):
    monkeypatch.setattr(reader_module, "_TIMEOUT_SECONDS", 0.2)
    locked, done = threading.Event(), threading.Event()

    def hold():
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("LOCK TABLE accounts_generation IN ACCESS EXCLUSIVE MODE")
            locked.set()
            done.wait(30)
            cursor.execute("ROLLBACK")
        connection.close()

    async def scenario():
        source = PostgresSource()
        reader = RevisionReader(lambda: source)
        await reader.revision()
        await source._connecting
        await run_loop()
        holding = asyncio.get_running_loop().run_in_executor(None, hold)
        await asyncio.to_thread(locked.wait, 30)
        assert await reader.revision() is None
        done.set()
        await holding
        reader.close()

    asyncio.run(scenario())
