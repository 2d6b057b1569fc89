"""What changes the policy revision, and what does not."""

import hashlib
import re
from dataclasses import replace

import pytest
from django.db import connection, models, transaction
from django.utils import timezone

from accounts.models import GroupRole, PolicyChange, PolicyRevision, ServiceAccount, Session, SyncedRole, Token, User
from authn.session_store import SessionStore, digest
from core.watched import Watched
from rbac.models import Role, Route
from revision import last_used, trigger_sql, triggers
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


def drop_trigger(table):
    name = next(each.name for each in triggers.installed(connection) if each.table == table)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER {name}" + ("" if connection.vendor == "sqlite" else f" ON {table}"))


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
    drop_trigger("accounts_token")
    assert triggers.missing() == ["accounts_token"]
    before = revision()
    triggers.install(connection)
    assert triggers.missing() == []
    assert revision() != before, "a change without the triggers went unnoticed"


def names():
    return {each.name for each in triggers.installed(connection)}


@pytest.fixture
def own_triggers(monkeypatch):
    """Remove what a test has installed, which PostgreSQL would keep for the next one."""
    yield
    monkeypatch.undo()
    if connection.vendor != "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"DROP FUNCTION IF EXISTS {trigger_sql.FUNCTION} CASCADE")
            cursor.execute(f"DROP FUNCTION IF EXISTS {trigger_sql.LOG_FUNCTION}")
        triggers.install(connection)


@pytest.fixture
def a_newer_version(own_triggers, monkeypatch):
    """Install the triggers of a version that watches one more column of users, and return their names."""
    narrow, wide = User.watched, replace(User.watched, ignored_fields=frozenset())
    monkeypatch.setattr(User, "watched", wide)
    triggers.install(connection)
    newer = names()
    monkeypatch.setattr(User, "watched", narrow)
    return newer


def test_promise_54_the_triggers_of_a_newer_version_satisfy_this_one_which_keeps_them(rows, a_newer_version):
    assert triggers.missing() == []
    drop_trigger("accounts_token")
    triggers.install(connection)
    assert triggers.missing() == []
    assert [name for name in a_newer_version if "accounts_user_update" in name] == [
        name for name in names() if "accounts_user_update" in name
    ]


def test_a_trigger_that_covers_fewer_columns_is_replaced(own_triggers, rows, monkeypatch):
    before = names()
    monkeypatch.setattr(User, "watched", replace(User.watched, ignored_fields=frozenset()))
    assert triggers.missing() == ["accounts_user"]
    triggers.install(connection)
    assert triggers.missing() == []
    assert len(names()) == len(before)


def test_a_trigger_of_a_table_that_this_version_does_not_watch_is_kept(own_triggers, rows, monkeypatch):
    """A newer version can need it."""
    before = names()
    fewer = [table for table in watched_tables() if table.model is not User]
    monkeypatch.setattr(trigger_sql, "watched_tables", lambda: fewer)
    drop_trigger("accounts_token")
    triggers.install(connection)
    assert names() == before


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(' OR OLD."revoked_at" IS NOT NEW."revoked_at"', ""),
        lambda text: text.replace("WHEN ", "WHEN NEW.id > 5 AND "),
        lambda text: text.replace('OLD."id" IS NOT', 'OLD."id" IS'),
        lambda text: text.replace("'token'", "'session'"),
        lambda text: re.sub("BEGIN.*END", "BEGIN SELECT 1; END", text, flags=re.DOTALL),
        lambda text: re.sub(r"BEGIN /\*.*?\*/", "BEGIN", text),
    ],
)
def test_a_trigger_that_does_less_than_ours_is_missing_and_installed_again(own_triggers, rows, change):
    update = next(t for t in trigger_sql.triggers("sqlite") if (t.table, t.event) == ("accounts_token", "update"))
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER {update.name}")
        cursor.execute(change(update.statement))
        assert change(update.statement) != update.statement
    assert triggers.missing() == ["accounts_token"]
    triggers.install(connection)
    assert triggers.missing() == []


@pytest.mark.postgres
@pytest.mark.parametrize("how", ["DISABLE", "ENABLE REPLICA"])
def test_promise_54_a_disabled_trigger_is_missing_and_enabled_again(own_triggers, rows, how):
    name = next(each.name for each in triggers.installed(connection) if each.table == "accounts_token")
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE accounts_token {how} TRIGGER {name}")
    assert triggers.missing() == ["accounts_token"]
    triggers.install(connection)
    assert triggers.missing() == []


@pytest.mark.postgres
def test_promise_54_a_changed_function_is_missing_and_created_again(own_triggers, rows):
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE OR REPLACE FUNCTION {trigger_sql.FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
        )
    assert len(triggers.missing()) == len(watched_tables())
    triggers.install(connection)
    assert triggers.missing() == []


@pytest.mark.postgres
def test_the_functions_write_to_skyauths_tables_whatever_the_search_path_is(rows):
    before = revision()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE accounts_generation (id int, number bigint, mark text) ON COMMIT DROP")
        cursor.execute("SET LOCAL search_path = pg_temp, public")
        cursor.execute("UPDATE public.accounts_token SET name = 'z'")
    assert revision() != before


def test_a_change_of_what_the_triggers_write_has_a_new_format():
    """`FORMAT` says which version wrote the triggers. Raise it when this fails, and write the new digest here."""
    written = "".join(trigger_sql.sqlite_steps("?", "?")) + trigger_sql.function_bodies()[trigger_sql.LOG_FUNCTION]
    assert (trigger_sql.FORMAT, hashlib.sha256(written.encode()).hexdigest()[:16]) == (2, "60154a676e8db720")


LOGGED = {
    "accounts_user": ("user", lambda: User.objects.filter(username="bob@example.com"), "display_name", "pk"),
    "accounts_serviceaccount": ("account", lambda: ServiceAccount.objects.filter(name="pipeline"), "description", "pk"),
    "accounts_token": ("token", Token.objects.all, "name", "pk"),
    "accounts_session": ("session", Session.objects.all, "agent", "pk"),
    "rbac_role": ("role", lambda: Role.objects.filter(name="viewer"), "description", "name"),
    "rbac_route": ("routes", Route.objects.all, "note", ""),
    "accounts_grouprole": ("groups", GroupRole.objects.all, "group", ""),
    "accounts_toldrole": ("synced-role", SyncedRole.objects.all, "server", "name"),
}


@pytest.mark.parametrize("table", watched_tables(), ids=lambda table: table.name)
def test_a_change_is_logged_with_the_key_of_its_row(rows, table):
    kind, find, column, key = LOGGED[table.name]
    row = find().get()
    expected = (kind, str(getattr(row, key)) if key else "")
    before = PolicyRevision.objects.get()
    find().update(**{column: "changed"})
    after = PolicyRevision.objects.get()
    change = PolicyChange.objects.latest("number")
    assert (change.kind, change.key) == expected
    assert (change.number, change.previous, change.value) == (before.number + 1, before.value, after.value)
    assert after.number == change.number


def test_a_table_without_a_kind_logs_a_change_of_everything(own_triggers, rows, monkeypatch):
    monkeypatch.setattr(Role, "watched", Watched())
    with connection.cursor() as cursor:
        for trigger in [t for t in triggers.installed(connection) if t.table == "rbac_role"]:
            cursor.execute(f"DROP TRIGGER {trigger.name}" + ("" if connection.vendor == "sqlite" else " ON rbac_role"))
        if connection.vendor != "sqlite":
            cursor.execute(f"DROP FUNCTION {trigger_sql.FUNCTION} CASCADE")
    triggers.install(connection)
    Role.objects.filter(name="viewer").update(description="changed")
    assert PolicyChange.objects.latest("number").kind == "all"


def test_the_log_is_bounded(rows, monkeypatch):
    for n in range(trigger_sql.KEPT + 60):
        User.objects.filter(username="bob@example.com").update(display_name=f"n{n}")
    assert trigger_sql.KEPT <= PolicyChange.objects.count() <= trigger_sql.KEPT + 50
    assert PolicyChange.objects.latest("number").number == PolicyRevision.objects.get().number


@pytest.mark.postgres
def test_all_changes_of_a_transaction_have_one_number_and_a_large_one_is_of_everything(rows):
    before = PolicyRevision.objects.get().number
    with transaction.atomic():
        User.objects.filter(username="bob@example.com").update(display_name="n")
        Role.objects.filter(name="viewer").update(description="n")
    assert sorted(PolicyChange.objects.filter(number=before + 1).values_list("position", "kind")) == [(1, "user"), (2, "role")]
    UserFactory.create_batch(250)
    User.objects.update(display_name="all")
    assert PolicyRevision.objects.get().number == before + 2
    changes = PolicyChange.objects.filter(number=before + 2)
    assert changes.count() == 200
    assert changes.latest("position").kind == "all"


@pytest.mark.postgres  # SQLite has no TRUNCATE
def test_truncating_a_table_changes_the_revision(rows):
    before = revision()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE rbac_route")
    assert revision() != before
