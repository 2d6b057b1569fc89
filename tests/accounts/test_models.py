"""Rows that cannot be, and what follows from those that are."""

from datetime import timedelta
from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.identifiers import account_uid, user_uid
from accounts.models import GroupRole, RoleSource, ServiceAccount, SignIn, Token, User, token_state
from core.bulk import Insert
from rbac.models import Role
from tests.factories import GroupRoleFactory, ServiceAccountFactory, UserFactory, make_token

pytestmark = pytest.mark.django_db
NOW = timezone.now()


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: UserFactory(username="Alice@example.com"),
        lambda: UserFactory(username=""),
        lambda: UserFactory(username="sa-alice"),
        lambda: UserFactory(sign_in="magic"),
        lambda: UserFactory(role_source="luck"),
        lambda: UserFactory(uid=UserFactory().uid),
        lambda: UserFactory(username=UserFactory().username, uid="x"),
        lambda: UserFactory(role=None),
        lambda: ServiceAccountFactory(name="Machine"),
        lambda: ServiceAccountFactory(name=""),
        lambda: ServiceAccountFactory(uid="96ed8a5c"),
        lambda: ServiceAccountFactory(uid=ServiceAccountFactory().uid),
        lambda: ServiceAccountFactory(name=ServiceAccountFactory().name),
        lambda: make_token(ServiceAccountFactory(), expires_at=NOW - timedelta(days=9), created_at=NOW),
        lambda: Token.objects.create(account=ServiceAccountFactory(), key_id="", digest="x", created_by="tests"),
        lambda: Token.objects.create(account=ServiceAccountFactory(), key_id="x", digest="", created_by="tests"),
        lambda: GroupRoleFactory(group=""),
        lambda: GroupRoleFactory(group=GroupRoleFactory().group),
    ],
)
def test_the_database_refuses_impossible_rows(attempt):
    with pytest.raises(IntegrityError), transaction.atomic():
        attempt()


def test_a_role_in_use_cannot_be_deleted_past_the_services():
    from django.db.models import ProtectedError

    UserFactory(role=Role.objects.get(name="viewer"))
    with pytest.raises(ProtectedError):
        Role.objects.get(name="viewer").delete()


def test_an_account_survives_its_owner_and_tokens_do_not_survive_their_account():
    owner = UserFactory()
    account = ServiceAccountFactory(owner=owner)
    make_token(account)
    owner.delete()
    account.refresh_from_db()
    assert account.owner is None
    assert account.tokens.count() == 1
    account.delete()
    assert not Token.objects.exists()


@pytest.mark.parametrize(
    ("expires_at", "revoked_at", "state"),
    [
        (None, None, "active"),
        (NOW + timedelta(microseconds=1), None, "active"),
        (NOW, None, "expired"),
        (NOW - timedelta(1), None, "expired"),
        (None, NOW, "revoked"),
        (NOW - timedelta(1), NOW, "revoked"),
        (None, NOW + timedelta(days=1), "revoked"),
    ],
)
def test_promise_12_a_token_dies_at_its_expiry_not_after_it(expires_at, revoked_at, state):
    assert token_state(expires_at, revoked_at, NOW) == state
    assert Token(expires_at=expires_at, revoked_at=revoked_at).state(NOW) == state
    assert Token().state() == "active"


@pytest.mark.parametrize(
    ("role", "active", "staff", "superuser", "views_users", "deletes_users", "sees_accounts", "other"),
    [
        ("admin", True, True, True, True, True, True, True),
        ("admin", False, False, False, False, False, False, False),
        ("user", True, False, False, True, False, True, False),
        ("viewer", True, False, False, True, False, True, False),
    ],
)
def test_djangos_permissions_follow_from_the_role(
    role, active, staff, superuser, views_users, deletes_users, sees_accounts, other
):
    user = UserFactory(role=Role.objects.get(name=role), is_active=active)
    assert (user.is_staff, user.is_superuser) == (staff, superuser)
    assert user.has_perm("accounts.view_user") is views_users
    assert user.has_perm("accounts.delete_user") is deletes_users
    assert user.has_perms(["accounts.view_user", "accounts.delete_user"]) is (views_users and deletes_users)
    assert user.has_module_perms("accounts") is sees_accounts
    assert user.has_perm("sessions.delete_session") is other, "what is not named is the admin role's alone"
    assert user.has_module_perms("sessions") is other


def test_promise_11_nothing_of_a_token_can_be_shown_again():
    plaintext = make_token(ServiceAccountFactory())[1]
    row = str(Token.objects.values().get())
    assert plaintext not in row
    assert plaintext[17:60] not in row


def test_rows_show_their_names():
    account = ServiceAccountFactory(name="pipeline")
    named, nameless = make_token(account)[0], make_token(account, name="")[0]
    assert [str(row) for row in (account, named)] == ["pipeline", "pipeline/ci"]
    assert str(nameless) == f"pipeline/{nameless.key_id}"
    assert str(UserFactory(username="alice@example.com")) == "alice@example.com"
    assert str(GroupRoleFactory(group="dev")) == "dev -> user"
    assert User.USERNAME_FIELD == "username"
    assert {SignIn.BOTH, RoleSource.GROUP} == {"both", "group"}
    assert ServiceAccount.objects.count() == GroupRole.objects.count() == 1


def test_an_account_is_found_by_its_id_at_a_skypilot_server_however_it_was_inserted(pipeline, system):
    fields = {"created_by": "tests", "role": pipeline.role}
    ServiceAccount.objects.bulk_create([ServiceAccount(name="bulk", uid=account_uid(), **fields)])
    Insert([ServiceAccount(name="many", uid=account_uid(), **fields)]).run()
    rows = ServiceAccount.objects.all()
    assert {row.name for row in rows} == {"pipeline", "bulk", "many"}
    assert [row.upstream_uid for row in rows] == [user_uid(row.upstream_name) for row in rows]


def test_the_migration_fills_the_id_at_a_skypilot_server(pipeline):
    other = ServiceAccountFactory(name="a.name_with-all")
    ServiceAccount.objects.update(upstream_uid="")
    import_module("accounts.migrations.0015_fill_upstream_uid").fill(apps, SimpleNamespace(connection=connection))
    for row in (pipeline, other):
        row.refresh_from_db()
        assert row.upstream_uid == user_uid(row.upstream_name)
