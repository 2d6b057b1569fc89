"""The role of somebody who is created without one."""

from importlib import import_module

import pytest
from django.apps import apps

from accounts.models import FirstAdmin, RoleSource, User
from accounts.services import offboarding, role_defaults, service_accounts, user_import, users
from audit.models import Entry
from authn import sso
from core.errors import Invalid
from rbac.models import Role
from rbac.principals import Kind, Principal
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
CAROL = "carol@example.com"


def role(name):
    return Role.objects.get(name=name)


def holding(*permissions, name="ops"):
    return Principal(Kind.USER, "ffffffff", "olga@example.com", role=name, permissions=frozenset(permissions))


def import_one(actor):
    assert user_import.import_users(actor=actor, text=f"username,role\n{CAROL},\n").applied
    return User.objects.get(username=CAROL)


CREATE = {
    "create_user": lambda actor: users.create_user(actor=actor, username=CAROL),
    "import": import_one,
    "service account": lambda actor: service_accounts.create_service_account(actor=actor, name="carol", unowned=True),
}


@pytest.mark.parametrize("create", CREATE.values(), ids=CREATE)
@pytest.mark.parametrize(
    ("setting", "expected"),
    [("admin", "user"), ("first-admin", "user"), ("user", "user"), ("viewer", "viewer"), ("operator", "user"), ("gone", "user")],
)
def test_promise_49_without_a_role_an_admin_creates_a_user_or_less(settings, system, create, setting, expected):
    Role.objects.create(name="operator", permissions=["metrics:read"])  # neither less nor more than user
    settings.RBAC_DEFAULT_ROLE = setting
    assert create(system).role.name == expected


def test_promise_49_without_a_role_nobody_gives_more_than_they_have(settings):
    settings.RBAC_DEFAULT_ROLE = "admin"
    clerk = holding("users:write", *role("viewer").holds, name="clerk")
    assert users.create_user(actor=clerk, username=CAROL).role.name == "viewer"
    with pytest.raises(Invalid) as raised:
        users.create_user(actor=holding("users:write"), username="dan@example.com")
    assert raised.value.fields == {"role": ["Name the role: you lack permissions of the default role user."]}


def test_a_role_that_nobody_named_is_marked_as_the_default_one(system):
    assert users.create_user(actor=system, username=CAROL).role_source == RoleSource.DEFAULT


# first sign-ins


@pytest.mark.parametrize(
    ("setting", "admins", "expected"),
    [
        ("admin", 0, "admin"),
        ("admin", 1, "admin"),
        ("user", 0, "user"),
        ("viewer", 1, "viewer"),
        ("first-admin", 0, "admin"),
        ("first-admin", 1, "user"),
    ],
)
def test_promise_34_a_first_sign_in_gets_the_configured_role(settings, setting, admins, expected):
    settings.RBAC_DEFAULT_ROLE = setting
    for _ in range(admins):
        UserFactory(role=role("admin"))
    assert sso.sign_in(CAROL, None).role == expected
    assert User.objects.get(username=CAROL).role_source == RoleSource.DEFAULT


def _delete(actor, admin):
    User.objects.filter(pk=admin.pk).delete()


LOST = {
    "deleted": _delete,
    "disabled": lambda actor, admin: User.objects.filter(pk=admin.pk).update(is_active=False),
    "demoted": lambda actor, admin: User.objects.filter(pk=admin.pk).update(role=role("user")),
}
MADE = {
    "signed in first": lambda actor: sso.sign_in("alice@example.com", None),
    "created": lambda actor: users.create_user(actor=actor, username="alice@example.com", role="admin"),
    "promoted": lambda actor: users.set_role(actor=actor, user=UserFactory(username="alice@example.com"), role="admin"),
}


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
def test_promise_34_first_admin_makes_no_second_admin_after_the_first_is_lost(settings, system, made, lost):
    settings.RBAC_DEFAULT_ROLE = "first-admin"
    made(system)
    alice = User.objects.get(username="alice@example.com")
    assert alice.role.name == "admin"
    lost(system, alice)
    assert sso.sign_in(CAROL, None).role == "user"


def test_promise_34_a_user_who_is_no_admin_does_not_use_first_admin_up(settings, system):
    settings.RBAC_DEFAULT_ROLE = "first-admin"
    bob = users.create_user(actor=system, username="bob@example.com")
    offboarding.delete_user(actor=system, user=bob)
    assert sso.sign_in(CAROL, None).role == "admin"


# upgrades


def mark_as_used(**rows):
    """Run the step of the migration on a database with these rows, and return whether first-admin is used up afterwards."""
    FirstAdmin.objects.all().delete()
    import_module("accounts.migrations.0010_first_admin").mark_used(apps, None)
    return FirstAdmin.objects.exists()


def entry(event, **data):
    Entry.objects.create(event=event, actor="tests", target="x", data=data)


BEFORE = {
    "nobody": (lambda: None, False),
    "a user": (lambda: UserFactory(), False),
    "an admin": (lambda: UserFactory(role=role("admin")), True),
    "a disabled admin": (lambda: UserFactory(role=role("admin"), is_active=False), True),
    "a deleted admin": (lambda: entry("user.deleted", role="admin"), True),
    "a created admin": (lambda: entry("user.created", role="admin"), True),
    "a demoted admin": (lambda: entry("user.updated", old={"role": "admin"}, new={"role": "user"}), True),
    "a promoted user": (lambda: entry("user.updated", old={"role": "user"}, new={"role": "admin"}), True),
    "other entries": (lambda: entry("user.created", role="user"), False),
    "an audit log that was pruned": (lambda: entry("audit.pruned"), True),
}


@pytest.mark.parametrize(("before", "used"), BEFORE.values(), ids=BEFORE)
def test_promise_34_an_upgrade_uses_first_admin_up_where_there_was_an_admin(before, used):
    before()
    assert mark_as_used() is used


def test_the_configured_role_of_a_first_sign_in_is_limited_to_the_actor(settings):
    settings.RBAC_DEFAULT_ROLE = "admin"
    clerk = holding("users:write", *role("viewer").holds, name="viewer")
    assert role_defaults.default_role(clerk).name == "viewer"


def test_promise_49_the_configured_role_gives_no_permission_of_the_actor_that_it_does_not_have(settings):
    settings.RBAC_DEFAULT_ROLE = "user"
    Role.objects.create(name="clerk", permissions=["users:write", *role("viewer").permissions])
    clerk = holding(*role("clerk").holds, name="clerk")
    assert role_defaults.default_role(clerk).name == "viewer"


def test_a_stored_role_with_the_name_first_admin_is_nobodys_default(settings, system):
    settings.RBAC_DEFAULT_ROLE = "first-admin"
    Role.objects.create(name="first-admin", permissions=["upstream:read"])
    assert users.create_user(actor=system, username=CAROL).role.name == "user"
