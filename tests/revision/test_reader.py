"""The shared read of the policy revision: no caller gets one that is older than its call."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
from django.db import connection

from accounts.models import GroupRole, PolicyRevision
from rbac.models import Role
from revision import postgres_source, sqlite_source
from revision.postgres_source import PostgresSource
from revision.reader import RevisionReader
from revision.sqlite_source import SqliteSource
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


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_locked_or_replaced_sqlite_file_gives_none_without_waiting(tmp_path, journal):
    path = tmp_path / "file.sqlite3"

    async def read(source):
        received = asyncio.get_running_loop().create_future()
        source.begin(received.set_result)
        return await received

    async def scenario():
        source = SqliteSource(str(path))
        assert await read(source) is None, "there is no such table"
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute(f"PRAGMA journal_mode={journal}")
            writer.execute("CREATE TABLE accounts_generation (id INTEGER, mark TEXT)")
            assert await read(source) is None, "there is no revision"
            writer.execute("INSERT INTO accounts_generation VALUES (1, 'm')")
            assert [await read(source) for _ in range(5)] == ["m"] * 5
            for value in "nop":
                writer.execute("UPDATE accounts_generation SET mark = ?", [value])
                assert [await read(source) for _ in range(3)] == [value] * 3
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            assert [await read(source) for _ in range(3)] == ["p"] * 3
            writer.execute("BEGIN EXCLUSIVE")
            writer.execute("UPDATE accounts_generation SET mark = 'q'")
            assert await read(source) == ("p" if journal == "wal" else None), "not committed"
            writer.execute("COMMIT")
            assert await read(source) == "q"
            kept = path.rename(tmp_path / "kept.sqlite3")
            assert await read(source) is None, "the file is gone"
            shutil.copy(kept, path)
            assert await read(source) is None, "another file is in its place"
            kept.rename(path)
        source.close()

    asyncio.run(scenario())


@pytest.mark.sqlite
def test_an_unchanged_sqlite_file_is_read_without_sqlite_and_a_stuck_read_stops_nobody(separate_connections, monkeypatch):
    monkeypatch.setattr(sqlite_source, "_TIMEOUT_SECONDS", 0.05)
    stuck = threading.Event()

    async def scenario():
        reader = RevisionReader()
        before = [await reader.revision() for _ in range(3)]
        source = reader._source
        read = source._read
        monkeypatch.setattr(source, "_read", lambda: (stuck.wait(), read())[1])
        unchanged = [await reader.revision() for _ in range(3)]
        await asyncio.to_thread(_change, "dev")
        started = time.monotonic()
        changed = [await reader.revision() for _ in range(5)]
        assert time.monotonic() - started < 1
        stuck.set()
        await asyncio.wrap_future(source._thread.submit(int))
        await run_loop()
        after = await reader.revision()
        reader.close()
        return before, unchanged, changed, after

    before, unchanged, changed, after = asyncio.run(scenario())
    assert len({*before, *unchanged}) == 1
    assert changed == [None] * 5, "SQLite waits for the locks of its readers"
    assert after == PolicyRevision.objects.get().value
    assert after not in before


@pytest.mark.sqlite
def test_promise_14_every_commit_is_seen_by_the_next_read_of_a_sqlite_file(tmp_path):
    """Thousands of commits by another process, each read back at once."""
    path = tmp_path / "file.sqlite3"
    program = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "for line in sys.stdin:\n"
        "    c.execute('UPDATE accounts_generation SET mark = ?', [line.strip()])\n"
        "    print(line.strip(), flush=True)\n"
    )
    with closing(sqlite3.connect(path, isolation_level=None)) as first:
        first.execute("PRAGMA journal_mode=wal")
        first.execute("PRAGMA synchronous=off")
        first.execute("CREATE TABLE accounts_generation (id INTEGER, mark TEXT)")
        first.execute("INSERT INTO accounts_generation VALUES (1, '-')")

    async def scenario(writer):
        reader = RevisionReader(lambda: SqliteSource(str(path)))
        for number in range(3_000):
            writer.stdin.write(f"{number}\n")
            assert writer.stdout.readline().strip() == str(number)
            for _ in range(number % 3 + 1):
                assert await reader.revision() == str(number)
        reader.close()

    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as writer:
        asyncio.run(scenario(writer))
        writer.stdin.close()


def _change(group):
    try:
        GroupRole.objects.create(group=group, role=Role.objects.get(name="user"))
    finally:
        connection.close()


@pytest.mark.postgres
def test_postgresql_reads_the_revision_and_reconnects_after_a_lost_connection(separate_connections, monkeypatch):
    monkeypatch.setattr(postgres_source, "_RECONNECT_SECONDS", 0.01)

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
    monkeypatch.setattr(postgres_source, "_TIMEOUT_SECONDS", 0.2)
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
