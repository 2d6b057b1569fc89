"""The shared read of the policy revision: no caller gets one that is older than its call."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from django.db import OperationalError, close_old_connections, connection

from accounts.models import GroupRole, PolicyRevision
from core.watched import GROUPS, ROUTES
from rbac.models import Role
from revision import epoch as epochs
from revision import postgres_source, triggers
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
            return await reader.epoch()

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

        assert await RevisionReader(Broken).epoch() is None

    asyncio.run(scenario())


def database_path():
    return Path(connection.settings_dict["NAME"])


def read_soon(source):
    received = asyncio.get_running_loop().create_future()
    source.begin(received.set_result)
    return received


@pytest.mark.sqlite
def test_sqlite_reads_the_current_revision(separate_connections):
    async def scenario():
        reader = RevisionReader()
        before = await reader.epoch()
        numbers = [before.number]
        await asyncio.to_thread(_change, "dev")
        epochs = [await reader.epoch(), await reader.epoch()]
        numbers += [epoch.number for epoch in epochs]
        assert epochs == [before, before], "the change is known"
        assert not before.is_current(numbers[0], [GROUPS])
        assert before.is_current(numbers[0], [ROUTES])
        reader.close()
        assert (await reader.epoch()) is not before, "another connection, another epoch"
        reader.close()
        return numbers

    before, *after = asyncio.run(scenario())
    assert after == [before + 1] * 2
    assert PolicyRevision.objects.get().number == before + 1


def number_of(epoch):
    return None if epoch is None else epoch.number


@pytest.mark.sqlite
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_locked_sqlite_file_gives_none_without_waiting(separate_connections, journal):
    connection.close()

    async def scenario():
        with closing(sqlite3.connect(database_path(), isolation_level=None)) as writer:
            writer.execute(f"PRAGMA journal_mode={journal}")
            source = SqliteSource(str(database_path()))
            first = await read_soon(source)
            for n in range(1, 4):
                _rename(writer, f"n{n}")
                found = [await read_soon(source) for _ in range(3)]
                assert found == [first] * 3
                assert first.number == number(writer)
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            assert [number_of(await read_soon(source)) for _ in range(3)] == [number(writer)] * 3
            before = number(writer)
            writer.execute("BEGIN EXCLUSIVE")
            _rename(writer, "other")
            assert number_of(await read_soon(source)) == (before if journal == "wal" else None), "not committed"
            writer.execute("COMMIT")
            assert (await read_soon(source)).number == before + 1
            source.close()

    asyncio.run(scenario())


def _rename(writer, name):
    writer.execute("UPDATE rbac_role SET description = ? WHERE name = 'viewer'", [name])


def number(writer):
    return writer.execute("SELECT number FROM accounts_generation").fetchone()[0]


@pytest.mark.sqlite
def test_promise_54_a_replaced_sqlite_file_is_opened_and_begins_an_epoch(separate_connections, tmp_path):
    connection.close()
    path, other = database_path(), tmp_path / "other.sqlite3"
    shutil.copy(path, other)

    async def scenario():
        source = SqliteSource(str(path))
        first = await read_soon(source)
        kept = path.rename(tmp_path / "kept.sqlite3")
        assert await read_soon(source) is None, "the file is gone"
        assert not path.exists(), "and no empty one is created"
        assert await read_soon(source) is None
        other.rename(path)
        second = await read_soon(source)
        assert second is not None
        assert second is not first, "the same revision in another file is another epoch"
        assert second.number == first.number
        path.rename(tmp_path / "again.sqlite3")
        kept.rename(path)
        found = [await read_soon(source), await read_soon(source)]
        assert found[0] is None
        assert found[1] not in (None, first, second)
        source.close()

    asyncio.run(scenario())


@pytest.mark.sqlite
def test_promise_54_a_replaced_file_beside_the_log_of_the_old_one_is_not_opened(separate_connections, tmp_path):
    """SQLite would write the old file's log into the new file."""
    connection.close()
    path, other = database_path(), tmp_path / "other.sqlite3"
    shutil.copy(path, other)

    async def scenario():
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            source = SqliteSource(str(path))
            assert await read_soon(source) is not None
            _rename(writer, "in the log")
            assert await read_soon(source) is not None
            other.replace(path)
            assert [await read_soon(source) for _ in range(4)] == [None] * 4
            source.close()

    asyncio.run(scenario())
    with pytest.raises(OperationalError, match="replaced"):
        connection.ensure_connection()
    path.with_name(f"{path.name}-wal").unlink()
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    assert Role.objects.get(name="viewer").description != "in the log"


@pytest.mark.sqlite
def test_promise_54_django_closes_the_connection_to_a_replaced_file(separate_connections, tmp_path):
    connection.close()
    path, other = database_path(), tmp_path / "other.sqlite3"
    shutil.copy(path, other)
    Role.objects.filter(name="viewer").update(description="in the old file")
    connection.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.replace(path)
    path.with_name(f"{path.name}-wal").unlink()
    path.with_name(f"{path.name}-shm").unlink()
    assert Role.objects.get(name="viewer").description == "in the old file", "the open connection has the old file"
    close_old_connections()
    assert Role.objects.get(name="viewer").description != "in the old file"


@pytest.mark.sqlite
def test_promise_54_without_a_trigger_the_sqlite_cache_is_not_used(separate_connections):
    async def scenario():
        source = SqliteSource(str(database_path()))
        first = await read_soon(source)
        with closing(sqlite3.connect(database_path(), isolation_level=None)) as writer:
            name, text = writer.execute("SELECT name, sql FROM sqlite_master WHERE name LIKE '%token_update%'").fetchone()
            writer.execute(f"DROP TRIGGER {name}")
            assert [await read_soon(source) for _ in range(3)] == [None] * 3
            writer.execute("UPDATE accounts_token SET name = 'unseen'")
            writer.execute(text)
            again = await read_soon(source)
        assert again is not None
        assert again is not first, "a change without the trigger is unknown"
        source.close()

    asyncio.run(scenario())


@pytest.mark.sqlite
def test_an_unchanged_sqlite_file_is_read_without_sqlite_and_a_stuck_read_stops_nobody(separate_connections, monkeypatch):
    stuck = threading.Event()

    async def scenario():
        reader = RevisionReader()
        before = [await reader.epoch() for _ in range(3)]
        source = reader._source
        read = source._read
        monkeypatch.setattr(source, "_read", lambda known: (stuck.wait(), read(known))[1])
        monkeypatch.setattr(epochs, "READ_SECONDS", 0.05)
        unchanged = [await reader.epoch() for _ in range(3)]
        await asyncio.to_thread(_change, "dev")
        started = time.monotonic()
        changed = [await reader.epoch() for _ in range(5)]
        assert time.monotonic() - started < 1
        stuck.set()
        monkeypatch.setattr(epochs, "READ_SECONDS", 5)
        await asyncio.wrap_future(source._thread.submit(int))
        await run_loop()
        after = await reader.epoch()
        reader.close()
        return before, unchanged, changed, after

    before, unchanged, changed, after = asyncio.run(scenario())
    assert len({*before, *unchanged}) == 1
    assert changed == [None] * 5, "SQLite waits for the locks of its readers"
    assert after is before[0]
    assert after.number == PolicyRevision.objects.get().number


@pytest.mark.sqlite
def test_promise_14_every_commit_is_seen_by_the_next_read_of_a_sqlite_file(separate_connections):
    """Thousands of commits by another process, each read back at once."""
    program = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA synchronous=off')\n"
        "for line in sys.stdin:\n"
        "    c.execute('UPDATE rbac_role SET description = ? WHERE name = ?', [line.strip(), 'viewer'])\n"
        "    print(c.execute('SELECT number FROM accounts_generation').fetchone()[0], flush=True)\n"
    )

    async def scenario(writer):
        reader = RevisionReader(lambda: SqliteSource(str(database_path())))
        first = await reader.epoch()
        for number in range(3_000):
            writer.stdin.write(f"{number}\n")
            committed = int(writer.stdout.readline())
            for _ in range(number % 3 + 1):
                epoch = await reader.epoch()
                assert epoch is first
                assert epoch.number == committed
        reader.close()

    with subprocess.Popen(
        [sys.executable, "-c", program, str(database_path())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as writer:
        asyncio.run(scenario(writer))
        writer.stdin.close()


def _change(group):
    try:
        GroupRole.objects.create(group=group, role=Role.objects.get(name="user"))
    finally:
        connection.close()


async def until_read(reader):
    for _ in range(500):
        if (epoch := await reader.epoch()) is not None:
            return epoch
        await asyncio.sleep(0.01)
    raise AssertionError("the revision was never read")


@pytest.mark.postgres
def test_postgresql_reads_the_revision_and_reconnects_after_a_lost_connection(separate_connections, monkeypatch):
    monkeypatch.setattr(postgres_source, "_RECONNECT_SECONDS", 0.01)

    async def scenario():
        sources = []
        reader = RevisionReader(lambda: sources.append(PostgresSource()) or sources[-1])
        assert await reader.epoch() is None, "the first call does not wait for the connection"
        first = await until_read(reader)
        before = first.number
        await asyncio.to_thread(_change, "dev")
        assert await reader.epoch() is first, "the change is known"
        assert first.number == before + 1
        assert not first.is_current(before, [GROUPS])
        assert first.is_current(before, [ROUTES])
        descriptor, connect = sources[0]._descriptor, sources[0]._connect
        monkeypatch.setattr(sources[0], "_connect", lambda: None)  # or a new connection may have the old one's descriptor
        await asyncio.to_thread(_end, sources[0]._connection.info.backend_pid)
        assert await reader.epoch() is None, "a lost connection gives no revision"
        assert not asyncio.get_running_loop().remove_reader(descriptor), (
            "its descriptor is not watched: a client's connection can get it next"
        )
        monkeypatch.setattr(sources[0], "_connect", connect)
        assert await until_read(reader) is first, "the same database on the same server"
        reader.close()

    asyncio.run(scenario())


def _end(pid):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    connection.close()


@pytest.mark.postgres
def test_a_postgresql_that_does_not_answer_gives_none_after_the_time_out(separate_connections, monkeypatch):
    monkeypatch.setattr(epochs, "READ_SECONDS", 0.2)
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
        await reader.epoch()
        await source._connecting
        await run_loop()
        holding = asyncio.get_running_loop().run_in_executor(None, hold)
        await asyncio.to_thread(locked.wait, 30)
        assert await reader.epoch() is None
        done.set()
        await holding
        reader.close()

    asyncio.run(scenario())


@pytest.mark.postgres
def test_promise_54_another_connection_replaces_that_of_a_reader_in_time(separate_connections, monkeypatch):
    monkeypatch.setattr(postgres_source, "_RECONNECT_SECONDS", 0.01)
    monkeypatch.setattr(postgres_source, "_LIFETIME_SECONDS", 0.2)

    async def scenario():
        source = PostgresSource()
        reader = RevisionReader(lambda: source)
        first = await until_read(reader)
        pids, deadline = set(), time.monotonic() + 20
        while len(pids) < 4 and time.monotonic() < deadline:
            assert await reader.epoch() in (first, None)
            if source._connection is not None:
                pids.add(source._connection.info.backend_pid)
            await asyncio.sleep(0.01)
        assert len(pids) == 4
        reader.close()

    asyncio.run(scenario())


@pytest.mark.postgres
@pytest.mark.parametrize("how", ["DISABLE TRIGGER", "DROP TRIGGER"])
def test_promise_54_without_a_trigger_the_postgresql_cache_is_not_used(separate_connections, monkeypatch, how):
    monkeypatch.setattr(postgres_source, "_RECONNECT_SECONDS", 0.01)
    monkeypatch.setattr(postgres_source, "_CHECK_SECONDS", 0.0)
    name = next(each.name for each in triggers.installed(connection) if each.table == "accounts_token")

    def change():
        with connection.cursor() as cursor:
            cursor.execute(
                f"ALTER TABLE accounts_token DISABLE TRIGGER {name}"
                if "DISABLE" in how
                else f"DROP TRIGGER {name} ON accounts_token"
            )
        connection.close()

    def repair():
        triggers.install(connection)
        connection.close()

    async def scenario():
        reader = RevisionReader(PostgresSource)
        first = await until_read(reader)
        await asyncio.to_thread(change)
        for _ in range(20):
            assert await reader.epoch() is None
            await asyncio.sleep(0.01)
        await asyncio.to_thread(repair)
        assert await until_read(reader) is not first
        reader.close()

    asyncio.run(scenario())
