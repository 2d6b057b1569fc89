"""The shared read of the mark: nobody is told one that is older than the question."""

import asyncio
import shutil
import sqlite3
import threading
from contextlib import closing

import pytest
from django.db import connection

from accounts.models import GroupRole, PolicyRevision
from rbac.models import Role
from revision import reader
from revision.reader import PostgresSource, RevisionReader, SqliteSource
from tests.races import separate_connections

__all__ = ["separate_connections"]


class Held:
    """A reader whose reads end when the test says so."""

    def __init__(self):
        self.begun = []

    def begin(self, heard):
        self.begun.append(heard)

    def close(self):
        pass


async def turns(count=3):
    """Let the event loop do what is due."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_one_read_serves_all_who_were_waiting_when_it_began():
    async def scenario():
        reader, heard = Held(), []
        fresh = RevisionReader(lambda: reader)
        for name in "abc":
            fresh.read(lambda mark, name=name: heard.append((name, mark)))
        await turns()
        assert len(reader.begun) == 1
        reader.begun[0]("m")
        assert heard == [("a", "m"), ("b", "m"), ("c", "m")]

    asyncio.run(scenario())


def test_promise_14_who_asks_while_a_read_is_under_way_waits_for_the_next():
    async def scenario():
        reader, heard = Held(), []
        fresh = RevisionReader(lambda: reader)
        fresh.read(lambda mark: heard.append(("early", mark)))
        await turns()
        fresh.read(lambda mark: heard.append(("late", mark)))
        await turns()
        assert len(reader.begun) == 1
        reader.begun[0]("old")
        await turns()
        assert heard == [("early", "old")]
        assert len(reader.begun) == 2
        reader.begun[1]("new")
        assert heard == [("early", "old"), ("late", "new")]

    asyncio.run(scenario())


def test_a_question_asked_by_an_answer_waits_for_a_read_of_its_own():
    async def scenario():
        reader, heard = Held(), []
        fresh = RevisionReader(lambda: reader)
        fresh.read(lambda _: fresh.read(heard.append))
        await turns()
        reader.begun[0]("old")
        assert heard == []
        await turns()
        reader.begun[1]("new")
        assert heard == ["new"]

    asyncio.run(scenario())


def test_nobody_who_asks_is_forgotten_whatever_the_order():
    async def scenario():
        class Late(Held):
            def begin(self, heard):
                asyncio.get_running_loop().call_later(0.001, heard, "m")

        fresh = RevisionReader(Late)

        async def ask(n):
            await asyncio.sleep(n % 7 / 2_000)
            return await fresh.mark()

        assert await asyncio.gather(*(ask(n) for n in range(200))) == ["m"] * 200

    asyncio.run(scenario())


def test_one_question_that_fails_keeps_no_other_waiting(caplog):
    async def scenario():
        reader, heard = Held(), []
        fresh = RevisionReader(lambda: reader)
        fresh.read(lambda _: heard[7])
        fresh.read(heard.append)
        await turns()
        reader.begun[0]("m")
        assert heard == ["m"]

    asyncio.run(scenario())
    assert "could not be gone on with" in caplog.text


def test_a_reader_that_cannot_tell_says_so():
    async def scenario():
        class Broken(Held):
            def begin(self, heard):
                heard(None)

        assert await RevisionReader(Broken).mark() is None

    asyncio.run(scenario())


@pytest.mark.sqlite
def test_sqlite_tells_the_mark_as_it_is_now(separate_connections):
    async def scenario():
        fresh = RevisionReader()
        told = [await fresh.mark()]
        await asyncio.to_thread(_change, "dev")
        told += [await fresh.mark(), await fresh.mark()]
        fresh.close()
        told.append(await fresh.mark())
        fresh.close()
        return told

    before, *after = asyncio.run(scenario())
    assert before
    assert after == [PolicyRevision.objects.get().value] * 3
    assert before not in after


def test_an_sqlite_file_that_cannot_be_read_is_not_waited_for_and_read_again_when_it_can(tmp_path):
    path = tmp_path / "file.sqlite3"

    def told(reader):
        heard = []
        reader.begin(heard.append)
        return heard

    reader = SqliteSource(str(path))
    assert told(reader) == [None], "there is no such table"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("CREATE TABLE accounts_generation (id INTEGER, mark TEXT)")
        assert told(reader) == [None], "there is no mark"
        writer.execute("INSERT INTO accounts_generation VALUES (1, 'm')")
        assert told(reader) == ["m"]
        writer.execute("BEGIN EXCLUSIVE")
        assert told(reader) == [None]
        writer.execute("ROLLBACK")
        assert told(reader) == ["m"]
    kept = path.rename(tmp_path / "kept.sqlite3")
    assert told(reader) == [None], "the file is gone"
    shutil.copy(kept, path)
    assert told(reader) == [None], "another file is in its place"
    kept.rename(path)
    assert told(reader) == ["m"]
    reader.close()


def _change(group):
    try:
        GroupRole.objects.create(group=group, role=Role.objects.get(name="user"))
    finally:
        connection.close()


@pytest.mark.postgres
def test_postgresql_tells_the_mark_and_comes_back_when_its_connection_is_lost(separate_connections, monkeypatch):
    monkeypatch.setattr(reader, "_AGAIN_SECONDS", 0.01)

    async def until_told(fresh):
        for _ in range(500):
            if (mark := await fresh.mark()) is not None:
                return mark
            await asyncio.sleep(0.01)
        raise AssertionError("the mark was never told")

    async def scenario():
        readers = []
        fresh = RevisionReader(lambda: readers.append(PostgresSource()) or readers[-1])
        assert await fresh.mark() is None, "the first question does not wait for the connection"
        first = await until_told(fresh)
        await asyncio.to_thread(_change, "dev")
        second = await fresh.mark()
        assert second not in (None, first)
        watched, connect = readers[0]._watched, readers[0]._connect
        monkeypatch.setattr(readers[0], "_connect", lambda: None)  # or a new connection may have the old one's descriptor
        await asyncio.to_thread(_end, readers[0]._connection.info.backend_pid)
        assert await fresh.mark() is None, "a lost connection tells nothing"
        assert not asyncio.get_running_loop().remove_reader(watched), "its descriptor is not watched: a client may have it next"
        monkeypatch.setattr(readers[0], "_connect", connect)
        assert await until_told(fresh) == second
        fresh.close()

    asyncio.run(scenario())


def _end(pid):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    connection.close()


@pytest.mark.postgres
def test_a_postgresql_that_does_not_answer_is_not_waited_for(separate_connections, monkeypatch):
    monkeypatch.setattr(reader, "_PATIENCE_SECONDS", 0.2)
    begun, done = threading.Event(), threading.Event()

    def hold():
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("LOCK TABLE accounts_generation IN ACCESS EXCLUSIVE MODE")
            begun.set()
            done.wait(30)
            cursor.execute("ROLLBACK")
        connection.close()

    async def scenario():
        reader = PostgresSource()
        fresh = RevisionReader(lambda: reader)
        await fresh.mark()
        await reader._connecting
        await turns()
        holding = asyncio.get_running_loop().run_in_executor(None, hold)
        await asyncio.to_thread(begun.wait, 30)
        assert await fresh.mark() is None
        done.set()
        await holding
        fresh.close()

    asyncio.run(scenario())
