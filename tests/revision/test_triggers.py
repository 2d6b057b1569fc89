"""What changes the policy revision, and what does not."""

import pytest
from django.db import connection, models, transaction
from django.utils import timezone

from accounts.models import GroupRole, PolicyRevision, ServiceAccount, Session, SyncedRole, Token, User
from authn.session_store import SessionStore, digest
from rbac.models import Role, Route
from revision import last_used, triggers
from revision.last_used import Touch
from revision.registry import watched_tables
from tests.factories import GroupRoleFactory, ServiceAccountFactory, UserFactory, make_token
from tests.races import separate_connections

__all__ = ["separate_connections"]


@pytest.fixture(autouse=True)
def _a_database_that_commits(separate_connections):
    """PostgreSQL changes the revision at the commit, which a test inside one transaction never sees."""


@pytest.fixture
def rows():
    """One row of every watched table."""
    owner = UserFactory(username="bob@example.com")
    make_token(ServiceAccountFactory(name="pipeline", owner=owner))
    ServiceAccountFactory(name="other", owner=UserFactory())
    GroupRoleFactory(group="dev")
    Route.objects.create(position=1, path="/**", methods=["*"], permission="upstream:read")
    session = SessionStore()
    session["a"] = "b"
    session.create()
    SyncedRole.objects.create(server="http://127.0.0.1:46580", name="bob@example.com", lease_since=timezone.now())


def revision():
    with connection.cursor() as cursor:
        cursor.execute(triggers.READ)
        row = cursor.fetchone()
    return row[0] if row else None


def other_value(field, row):
    """Return another valid value for a column of the row."""
    value = getattr(row, field.attname)
    if isinstance(field, models.ForeignKey):
        return field.related_model._default_manager.exclude(pk=value).first().pk
    if isinstance(field, models.BooleanField):
        return not value
    if isinstance(field, models.DateTimeField):
        return timezone.now() + timezone.timedelta(days=900) if value is None else value + timezone.timedelta(seconds=1)
    if isinstance(field, models.JSONField):
        return ["POST"] if field.name == "methods" else ["upstream:write"]
    if isinstance(field, models.IntegerField):
        return value + 1
    if field.choices:
        return next(choice for choice, _ in field.choices if choice != value)
    return f"{(value or '')[:7]}x"


COLUMNS = [
    (table, field)
    for table in watched_tables()
    for field in table.model._meta.concrete_fields
    if not field.primary_key and field.name != "replaced_by"
]


@pytest.mark.parametrize(("table", "field"), COLUMNS, ids=[f"{t.name}.{f.column}" for t, f in COLUMNS])
def test_promise_15_a_change_of_any_watched_column_changes_the_revision(rows, table, field):
    row = table.model._default_manager.exclude(**{"name": "admin"} if table.model is Role else {}).first()
    before = revision()
    assert before
    table.model._default_manager.filter(pk=row.pk).update(**{field.attname: other_value(field, row)})
    assert (revision() != before) is (field.name not in table.watched.ignored_fields)


@pytest.mark.parametrize("table", watched_tables(), ids=lambda table: table.name)
def test_promise_14_a_deleted_row_changes_the_revision(rows, table):
    for dependent in (Session, Token, ServiceAccount, GroupRole, User, Role, Route):
        if dependent is table.model:
            break
        dependent._default_manager.all().delete()
    before = revision()
    table.model._default_manager.all().delete()
    assert revision() != before


@pytest.mark.parametrize("statement", ["UPDATE accounts_token SET revoked_at = created_at", "DELETE FROM rbac_route"])
def test_a_writer_that_bypasses_the_services_changes_the_revision_too(rows, statement):
    before = revision()
    with connection.cursor() as cursor:
        cursor.execute(statement)
    assert revision() != before


@pytest.mark.sqlite  # INSERT OR REPLACE is SQLite's
@pytest.mark.parametrize("table", watched_tables(), ids=lambda table: table.name)
def test_a_replaced_row_changes_the_revision(rows, table):
    before = revision()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA foreign_keys = OFF")
        cursor.execute(f"INSERT OR REPLACE INTO {table.name} SELECT * FROM {table.name} LIMIT 1")  # noqa: S608
    assert revision() != before


def test_an_update_without_a_new_value_keeps_the_revision(rows):
    before = revision()
    Token.objects.update(name="ci")
    User.objects.update(is_active=True)
    assert revision() == before


def test_a_last_used_timestamp_keeps_the_revision(rows):
    before = revision()
    token, user = Token.objects.get(), User.objects.first()
    session = SessionStore()
    session.create()
    Session.objects.update(last_used_at="2026-01-01T00:00Z")
    before = revision()
    last_used.touch(Touch(last_used.TOKEN, token.pk, None, "192.0.2.7"))
    last_used.touch(Touch(last_used.USER, user.pk, None))
    last_used.touch(Touch(last_used.SESSION, digest(str(session.session_key)), None, "192.0.2.8"))
    assert Token.objects.get().last_used_from == "192.0.2.7"
    assert Session.objects.order_by("-last_used_at").first().address == "192.0.2.8"
    assert User.objects.get(pk=user.pk).last_seen_at is not None
    assert revision() == before


def test_a_new_row_that_no_cached_answer_depends_on_keeps_the_revision(rows):
    before = revision()
    make_token(ServiceAccountFactory(owner=UserFactory()))
    SessionStore().create()
    assert revision() == before


def test_a_new_route_or_group_changes_the_revision(rows):
    before = revision()
    GroupRoleFactory(group="ops")
    between = revision()
    Route.objects.create(position=2, path="/a", methods=["*"], permission="upstream:read")
    assert len({before, between, revision()}) == 3


def test_promise_44_the_revision_changes_in_the_transaction_of_the_change(rows):
    before = revision()
    with transaction.atomic():
        Token.objects.all().delete()
        transaction.set_rollback(True)
    assert revision() == before
    assert Token.objects.exists()


def test_a_revision_is_never_repeated(rows):
    seen = {revision()}
    for n in range(50):
        Token.objects.update(name=f"n{n}")
        seen.add(revision())
    assert len(seen) == 51


def test_the_next_change_restores_a_deleted_revision(rows):
    PolicyRevision.objects.all().delete()
    assert revision() is None
    Token.objects.update(name="other")
    assert revision()


def test_missing_triggers_are_detected_and_installed_again(rows):
    assert triggers.missing() == []
    missing = next(name for name, table in triggers.installed(connection).items() if table == "accounts_token")
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER {missing}" + ("" if connection.vendor == "sqlite" else " ON accounts_token"))
    assert triggers.missing() == ["accounts_token"]
    before = revision()
    triggers.install(connection)
    assert triggers.missing() == []
    assert revision() != before, "a change without the triggers went unnoticed"


def test_a_trigger_of_a_table_that_is_no_longer_watched_is_dropped(rows, monkeypatch):
    monkeypatch.setattr(triggers, "watched_tables", lambda: [table for table in watched_tables() if table.model is not User])
    triggers.install(connection)
    assert User._meta.db_table not in triggers.installed(connection).values()
    monkeypatch.undo()
    triggers.install(connection)
    assert triggers.missing() == []


@pytest.mark.postgres  # SQLite has no TRUNCATE
def test_truncating_a_table_changes_the_revision(rows):
    before = revision()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE rbac_route")
    assert revision() != before
