"""Audit entries are inserted, and forgotten when old; nothing else."""

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from audit.events import Event
from audit.models import AppendOnly, Entry
from audit.record import record
from tests.commands.run_command import run_alone

pytestmark = pytest.mark.django_db


@pytest.fixture
def entry(system):
    return record(Event.ROLE_CREATED, actor=system, target="ops")


@pytest.mark.parametrize(
    "attempt",
    [
        lambda entry: entry.save(),
        lambda entry: entry.save(update_fields=["reason"]),
        lambda entry: entry.save(force_update=True),
        lambda entry: entry.delete(),
        lambda entry: Entry.objects.update(reason="forged"),
        lambda entry: Entry.objects.filter(pk=entry.pk).update(reason="forged"),
        lambda entry: Entry.objects.all().delete(),
        lambda entry: Entry.objects.filter(pk=entry.pk).delete(),
        lambda entry: Entry.objects.bulk_update([entry], ["reason"]),
        lambda entry: Entry.objects.update_or_create(pk=entry.pk, defaults={"reason": "forged"}),
    ],
)
def test_an_entry_cannot_be_changed_or_deleted(entry, attempt):
    entry.reason = "forged"
    with pytest.raises(AppendOnly), transaction.atomic():
        attempt(entry)
    assert Entry.objects.get().reason == ""


@pytest.mark.parametrize(
    "attempt",
    [
        lambda entry: connection.cursor().execute("UPDATE audit_entry SET reason = 'forged'"),
        lambda entry: Entry._base_manager.update(reason="forged"),
        lambda entry: Entry(pk=entry.pk, event=entry.event, actor="forged", reason="forged").save(),
    ],
    ids=["raw SQL", "base manager", "a new object with an old key"],
)
def test_the_database_itself_refuses_a_change(entry, attempt):
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
        attempt(entry)
    assert Entry.objects.get().reason == ""


def test_pruning_forgets_what_is_older_and_nothing_else(system):
    now = timezone.now()
    for days in (400, 366, 364, 0):
        Entry.objects.create(event=Event.SIGN_IN, actor="a", at=now - timedelta(days=days))
    assert Entry.objects.prune(now - timedelta(days=365), 10) == 2
    assert Entry.objects.count() == 2
    assert Entry.objects.filter(at__lt=now - timedelta(days=365)).count() == 0


def test_the_newest_entry_comes_first(system):
    for name in ("one", "two", "three"):
        record(Event.ROLE_CREATED, actor=system, target=name)
    assert [entry.target for entry in Entry.objects.all()] == ["three", "two", "one"]


def test_events_are_named_by_subject_and_what_happened_and_fit_their_column():
    assert all(event.value.count(".") == 1 and event.value == event.value.lower() for event in Event)
    assert max(map(len, Event)) <= Entry._meta.get_field("event").max_length


INSERT = {
    "0002": "INSERT INTO audit_entry (at, event, actor, actor_uid, method, peer, target, reason, data)"
    " VALUES ('', '', '', '', '', '', '', '', '{}')",
    "0003": "INSERT INTO audit_entry (at, event, actor, actor_uid, method, peer, target, reason, data, reference)"
    " VALUES ('', '', '', '', '', '', '', '', '{}', '')",
}


def test_the_database_goes_on_refusing_when_its_table_was_rebuilt_forwards_and_backwards(tmp_path):
    """SQLite makes a new table for a new column, and the trigger goes with the old one."""
    for target in ("0002", "0003", "0002", "0003"):
        assert run_alone("migrate", "audit", target, data_dir=tmp_path).code == 0
        with closing(sqlite3.connect(tmp_path / "skyauth.sqlite3")) as database:
            database.execute(INSERT[target])
            database.commit()
            with pytest.raises(sqlite3.IntegrityError, match="never changed"):
                database.execute("UPDATE audit_entry SET reason = 'forged'")
    with closing(sqlite3.connect(tmp_path / "skyauth.sqlite3")) as database:
        assert database.execute("SELECT count(*) FROM audit_entry").fetchone() == (4,), "nothing was lost on the way"
