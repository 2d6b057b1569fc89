"""The mark of everything that decides: what renews it, and what leaves it alone."""

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
    """PostgreSQL renews the mark at the commit, which a test inside one transaction never sees."""


@pytest.fixture
def rows():
    """One row of every kind that decides."""
    owner = UserFactory(username="bob@example.com")
    make_token(ServiceAccountFactory(name="pipeline", owner=owner))
    ServiceAccountFactory(name="other", owner=UserFactory())
    GroupRoleFactory(group="dev")
    Route.objects.create(position=1, path="/**", methods=["*"], permission="upstream:read")
    session = SessionStore()
    session["a"] = "b"
    session.create()
    SyncedRole.objects.create(server="http://127.0.0.1:46580", name="bob@example.com", lease_since=timezone.now())


def mark():
    with connection.cursor() as cursor:
        cursor.execute(triggers.READ)
        row = cursor.fetchone()
    return row[0] if row else None


def other(field, row):
    """Return another good value for a column than the row has."""
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
    return f"{value[:7]}x"


COLUMNS = [
    (table, field)
    for table in watched_tables()
    for field in table.model._meta.concrete_fields
    if not field.primary_key and field.name != "replaced_by"
]


@pytest.mark.parametrize(("table", "field"), COLUMNS, ids=[f"{t.name}.{f.column}" for t, f in COLUMNS])
def test_promise_15_a_change_of_any_column_that_decides_renews_the_mark(rows, table, field):
    row = table.model._default_manager.exclude(**{"name": "admin"} if table.model is Role else {}).first()
    before = mark()
    assert before
    table.model._default_manager.filter(pk=row.pk).update(**{field.attname: other(field, row)})
    assert (mark() != before) is (field.name not in table.watched.idle)


@pytest.mark.parametrize("table", watched_tables(), ids=lambda table: table.name)
def test_promise_14_a_row_that_goes_renews_the_mark(rows, table):
    for dependent in (Session, Token, ServiceAccount, GroupRole, User, Role, Route):
        if dependent is table.model:
            break
        dependent._default_manager.all().delete()
    before = mark()
    table.model._default_manager.all().delete()
    assert mark() != before


@pytest.mark.parametrize("statement", ["UPDATE accounts_token SET revoked_at = created_at", "DELETE FROM rbac_route"])
def test_a_writer_who_goes_round_the_services_cannot_forget_it(rows, statement):
    before = mark()
    with connection.cursor() as cursor:
        cursor.execute(statement)
    assert mark() != before


@pytest.mark.sqlite  # INSERT OR REPLACE is SQLite's
@pytest.mark.parametrize("table", watched_tables(), ids=lambda table: table.name)
def test_a_row_that_is_replaced_in_one_step_renews_the_mark(rows, table):
    before = mark()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA foreign_keys = OFF")
        cursor.execute(f"INSERT OR REPLACE INTO {table.name} SELECT * FROM {table.name} LIMIT 1")  # noqa: S608
    assert mark() != before


def test_a_change_that_changes_nothing_leaves_the_mark_alone(rows):
    before = mark()
    Token.objects.update(name="ci")
    User.objects.update(is_active=True)
    assert mark() == before


def test_noting_a_use_leaves_the_mark_alone(rows):
    before = mark()
    token, user = Token.objects.get(), User.objects.first()
    session = SessionStore()
    session.create()
    Session.objects.update(last_used_at="2026-01-01T00:00Z")
    before = mark()
    last_used.note(Touch(last_used.TOKEN, token.pk, None, "192.0.2.7"))
    last_used.note(Touch(last_used.USER, user.pk, None))
    last_used.note(Touch(last_used.SESSION, digest(str(session.session_key)), None, "192.0.2.8"))
    assert Token.objects.get().last_used_from == "192.0.2.7"
    assert Session.objects.order_by("-last_used_at").first().address == "192.0.2.8"
    assert User.objects.get(pk=user.pk).last_seen_at is not None
    assert mark() == before


def test_a_new_row_that_no_answer_can_have_depended_on_leaves_the_mark_alone(rows):
    before = mark()
    make_token(ServiceAccountFactory(owner=UserFactory()))
    SessionStore().create()
    assert mark() == before


def test_a_new_route_or_group_renews_the_mark(rows):
    before = mark()
    GroupRoleFactory(group="ops")
    between = mark()
    Route.objects.create(position=2, path="/a", methods=["*"], permission="upstream:read")
    assert len({before, between, mark()}) == 3


def test_promise_44_the_mark_changes_with_the_change_or_not_at_all(rows):
    before = mark()
    with transaction.atomic():
        Token.objects.all().delete()
        transaction.set_rollback(True)
    assert mark() == before
    assert Token.objects.exists()


def test_a_mark_never_comes_again(rows):
    seen = {mark()}
    for n in range(50):
        Token.objects.update(name=f"n{n}")
        seen.add(mark())
    assert len(seen) == 51


def test_a_lost_mark_is_made_anew_by_the_next_change(rows):
    PolicyRevision.objects.all().delete()
    assert mark() is None
    Token.objects.update(name="other")
    assert mark()


def test_triggers_that_a_rebuilt_table_lost_are_missed_and_put_back(rows):
    assert triggers.missing() == []
    gone = next(name for name, table in triggers.installed(connection).items() if table == "accounts_token")
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER {gone}" + ("" if connection.vendor == "sqlite" else " ON accounts_token"))
    assert triggers.missing() == ["accounts_token"]
    before = mark()
    triggers.install(connection)
    assert triggers.missing() == []
    assert mark() != before, "what happened while they were gone, nobody knows"


def test_a_trigger_that_nobody_wants_any_more_is_removed(rows, monkeypatch):
    monkeypatch.setattr(triggers, "watched_tables", lambda: [table for table in watched_tables() if table.model is not User])
    triggers.install(connection)
    assert User._meta.db_table not in triggers.installed(connection).values()
    monkeypatch.undo()
    triggers.install(connection)
    assert triggers.missing() == []


@pytest.mark.postgres  # SQLite has no TRUNCATE
def test_emptying_a_table_renews_the_mark(rows):
    before = mark()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE rbac_route")
    assert mark() != before
