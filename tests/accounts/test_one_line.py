"""Every text that a person types is one line: services refuse it otherwise, and an upgrade leaves none."""

from importlib import import_module

import pytest
from django.apps import apps

from accounts.models import GroupRole, ServiceAccount, Token, User
from accounts.services import groups, service_accounts, tokens, users
from core.errors import Invalid
from rbac import services
from rbac.models import Role, Route
from rbac.packs import RouteSpec
from tests.factories import ServiceAccountFactory, UserFactory, make_token

pytestmark = pytest.mark.django_db
BAD = "one\ntwo"
TYPED = {
    "display name": lambda actor: users.create_user(actor=actor, username="c@example.com", display_name=BAD),
    "display name of an existing user": lambda actor: users.update_profile(actor=actor, user=UserFactory(), display_name=BAD),
    "description of an account": lambda actor: service_accounts.create_service_account(
        actor=actor, name="ci", description=BAD, unowned=True
    ),
    "name of a token": lambda actor: tokens.issue_token(actor=actor, account=ServiceAccountFactory(), name=BAD),
    "group": lambda actor: groups.create_group_role(actor=actor, group=BAD, role="user"),
    "description of a role": lambda actor: services.create_role(actor=actor, name="ops", description=BAD),
    "note of a route": lambda actor: services.create_route(
        actor=actor, spec=RouteSpec("/a", ("GET",), "upstream:read", note=BAD)
    ),
}


@pytest.mark.parametrize("write", TYPED.values(), ids=TYPED)
def test_a_line_break_in_a_text_is_refused(system, write):
    with pytest.raises(Invalid, match=r"U\+000A"):
        write(system)


def test_every_text_that_people_type_has_the_check():
    models = (User, ServiceAccount, Token, GroupRole, Role, Route)
    checked = {
        f"{model.__name__}.{field.name}"
        for model in models
        for field in model._meta.concrete_fields
        if any(getattr(each, "__name__", "") == "check_one_line" for each in field.validators)
    }
    assert checked == {
        "User.display_name",
        "ServiceAccount.description",
        "Token.name",
        "GroupRole.group",
        "Role.description",
        "Route.note",
    }


def test_an_upgrade_makes_stored_texts_one_line(bob):
    User.objects.filter(pk=bob.pk).update(display_name=BAD)
    account = ServiceAccountFactory(description=BAD)
    token, _ = make_token(account, name=BAD)
    Role.objects.filter(name="viewer").update(description=BAD)
    Route.objects.create(position=1, path="/**", methods=["*"], permission="upstream:read", note=BAD)
    for name in ("accounts.migrations.0011_one_line", "rbac.migrations.0005_own_password"):
        import_module(name).one_line(apps, None)
    for row, field in ((bob, "display_name"), (account, "description"), (token, "name")):
        row.refresh_from_db()
        assert getattr(row, field) == "one two"
    assert Role.objects.get(name="viewer").description == Route.objects.get().note == "one two"


SEEDED = ["roles:read", "upstream:read", "users:read"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SEEDED, ["password:own", *SEEDED]),
        (["upstream:read"], ["upstream:read"]),
        ([*SEEDED, "audit:read"], [*SEEDED, "audit:read"]),
    ],
)
def test_an_upgrade_lets_viewers_change_their_password_unless_an_admin_changed_the_role(db, before, after):
    Role.objects.filter(name="viewer").update(permissions=before)
    import_module("rbac.migrations.0005_own_password").grant(apps, None)
    assert Role.objects.get(name="viewer").permissions == after


def test_a_viewer_changes_a_password_that_an_admin_typed(system, vera):
    from authn.own_password import change_own_password
    from tests.factories import principal

    users.set_password(actor=system, user=vera, password="typed by an admin")
    change_own_password(actor=principal(users.get_user(vera.uid)), current="typed by an admin", password="another good phrase")
    assert users.get_user(vera.uid).check_password("another good phrase")
