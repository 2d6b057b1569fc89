"""What identity providers and auth proxies send: odd names, odd lists of groups, and what follows for the role."""

from dataclasses import replace

import pytest

from accounts.models import DeletedUser, RoleSource, User
from accounts.services import deleted_users, offboarding, users
from audit.models import Entry
from authn.credentials import InvalidCredential, ProxyHeader
from authn.identify import identify
from core.errors import Forbidden, Invalid, NotFound
from rbac.models import Role
from rbac.principals import system
from tests.factories import GroupRoleFactory, UserFactory, principal
from tests.verify_client import CLIENT

pytestmark = pytest.mark.django_db
CAROL = "carol@example.com"


def role(name):
    return Role.objects.get(name=name)


@pytest.fixture(autouse=True)
def plaintext(settings):
    """A trusted proxy names users and their groups; dev gives the role user, root gives admin."""
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    settings.AUTH_GROUPS_HEADER = "X-Auth-Request-Groups"
    settings.RBAC_DEFAULT_ROLE = "viewer"
    GroupRoleFactory(group="dev", role=role("user"), priority=1)
    GroupRoleFactory(group="root", role=role("admin"), priority=2)


def who(name=CAROL, groups=None, **more):
    return identify(ProxyHeader(name, groups, **more), client=CLIENT)


def seen():
    user = User.objects.get(username=CAROL)
    return (user.role.name, user.role_source)


@pytest.mark.parametrize("groups", [None, "", " ", ",", " , ,"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("user", RoleSource.GROUP), ("viewer", RoleSource.DEFAULT)),
        (("admin", RoleSource.GROUP), ("viewer", RoleSource.DEFAULT)),
        (("admin", RoleSource.MANUAL), ("admin", RoleSource.MANUAL)),
        (("user", RoleSource.DEFAULT), ("user", RoleSource.DEFAULT)),
    ],
)
def test_promise_46_a_request_without_groups_is_one_of_nobody_in_a_group(alice, groups, before, after):
    UserFactory(username=CAROL, role=role(before[0]), role_source=before[1])
    assert who(groups=groups).role == after[0]
    assert seen() == after


def test_where_no_groups_are_read_the_role_of_a_group_stays(alice, settings):
    settings.AUTH_GROUPS_HEADER = ""
    UserFactory(username=CAROL, role=role("user"), role_source=RoleSource.GROUP)
    assert who().role == "user"
    assert seen() == ("user", RoleSource.GROUP)


# what is taken away

FALLS = {  # the default role, the role and its source before, the role and its source after the last group
    "a viewer where the default is admin": ("admin", ("viewer", None), ("viewer", RoleSource.DEFAULT)),
    "an admin where the default is admin": ("admin", ("admin", None), ("admin", RoleSource.DEFAULT)),
    "an admin where the default is viewer": ("viewer", ("admin", None), ("viewer", RoleSource.DEFAULT)),
    "an auditor where the default is user": ("user", ("auditor", None), ("viewer", RoleSource.DEFAULT)),
    "a viewer by hand who became admin": ("user", ("admin", "viewer"), ("viewer", RoleSource.MANUAL)),
    "an admin by hand who became viewer": ("user", ("viewer", "admin"), ("viewer", RoleSource.DEFAULT)),
    "a user by hand who became auditor": ("admin", ("auditor", "user"), ("viewer", RoleSource.DEFAULT)),
    "somebody whose role by hand is gone": ("user", ("admin", "a deleted role"), ("user", RoleSource.DEFAULT)),
}


@pytest.fixture
def auditor(db):
    return Role.objects.create(name="auditor", permissions=["audit:read", "roles:read", "upstream:read", "users:read"])


@pytest.mark.parametrize(("default", "before", "after"), FALLS.values(), ids=FALLS)
def test_promise_47_who_loses_the_last_group_never_has_more_than_before(alice, auditor, settings, default, before, after):
    settings.RBAC_DEFAULT_ROLE = default
    held, by_hand = before
    UserFactory(username=CAROL, role=role(held), role_source=RoleSource.GROUP, role_before_group=by_hand)
    assert who().role == after[0]
    assert seen() == after
    assert User.objects.get(username=CAROL).role_before_group is None


def test_a_role_by_hand_is_remembered_while_a_group_gives_another(alice):
    UserFactory(username=CAROL, role=role("viewer"), role_source=RoleSource.MANUAL)
    assert [who(groups=text).role for text in ("root", "dev", "root", "")] == ["admin", "user", "admin", "viewer"]
    assert seen() == ("viewer", RoleSource.MANUAL)


def test_promise_47_a_group_that_comes_and_goes_gives_no_more_than_was_left_of_a_lost_role(alice, settings):
    settings.RBAC_DEFAULT_ROLE = "admin"
    UserFactory(username=CAROL, role=role("viewer"), role_source=RoleSource.GROUP)
    assert [who(groups=text).role for text in ("", "root", "", "dev", "")] == ["viewer", "admin", "viewer", "user", "viewer"]


def test_promise_47_a_deleted_viewer_who_returns_stays_one_after_a_group(alice, settings):
    settings.RBAC_DEFAULT_ROLE = "admin"
    delete(UserFactory(username=CAROL, role=role("viewer"), role_source=RoleSource.MANUAL))
    assert [who(groups=text).role for text in ("", "dev", "")] == ["viewer", "user", "viewer"]


def test_promise_47_a_viewer_by_hand_who_is_deleted_while_a_group_gives_more_returns_as_viewer(alice, settings):
    settings.RBAC_DEFAULT_ROLE = "admin"
    UserFactory(username=CAROL, role=role("viewer"), role_source=RoleSource.MANUAL)
    assert who(groups="root").role == "admin"
    carol = User.objects.get(username=CAROL)
    assert "at most the role viewer or" in deleted_users.consequence(carol)
    delete(carol)
    assert who(groups="").role == "viewer"


def test_a_group_gives_its_role_where_the_default_role_was_deleted(alice, settings):
    settings.RBAC_DEFAULT_ROLE = "gone"
    UserFactory(username=CAROL, role=role("viewer"), role_source=RoleSource.DEFAULT)
    assert [who(groups=text).role for text in ("dev", "")] == ["user", "viewer"]


def test_promise_47_a_viewer_stays_one_under_first_admin_without_an_admin(settings):
    settings.RBAC_DEFAULT_ROLE = "first-admin"
    UserFactory(username=CAROL, role=role("viewer"), role_source=RoleSource.GROUP)
    assert who().role == "viewer"


def delete(user, **more):
    offboarding.delete_user(actor=system("tests"), user=user, **more)


@pytest.mark.parametrize("sign_in", ["sso", "both", "password"])
@pytest.mark.parametrize(
    ("default", "held", "groups", "expected"),
    [
        ("admin", "viewer", "", "viewer"),
        ("user", "viewer", None, "viewer"),
        ("viewer", "admin", None, "viewer"),
        ("user", "auditor", "", "viewer"),
        ("viewer", "viewer", "dev", "user"),  # what their groups give them today
    ],
)
def test_promise_47_a_deleted_user_who_returns_has_no_more_than_before(
    alice, auditor, settings, sign_in, default, held, groups, expected
):
    settings.RBAC_DEFAULT_ROLE = default
    delete(UserFactory(username=CAROL, role=role(held), sign_in=sign_in))
    assert who(groups=groups).role == expected
    assert Entry.objects.first().data["returned"] is True
    assert not DeletedUser.objects.exists()
    delete(User.objects.get(username=CAROL))
    assert who(groups=groups).role == expected, "also the second time"


@pytest.mark.parametrize(
    ("fields", "choice", "blocked"),
    [
        ({}, None, False),
        ({}, True, True),
        ({}, False, False),
        ({"is_active": False}, None, True),  # who was disabled is not let in by a deletion
        ({"is_active": False}, False, False),
    ],
)
def test_a_blocked_user_is_refused_with_the_reason(alice, fields, choice, blocked):
    delete(UserFactory(username=CAROL, **fields), block=choice)
    assert DeletedUser.objects.get().blocked is blocked
    assert Entry.objects.first().data.get("blocked", False) is blocked
    if not blocked:
        assert who().name == CAROL
        return
    with pytest.raises(InvalidCredential) as raised:
        who(groups="root")
    assert raised.value.message == "Your user was deleted, and its name is blocked. Ask an administrator of SkyAuth."
    assert (Entry.objects.first().actor, Entry.objects.first().reason) == (CAROL, "deleted user whose name is blocked")
    deleted_users.set_blocked(actor=system("tests"), username=CAROL, blocked=False)
    assert Entry.objects.first().event == "user.unblocked"
    assert who().role == "viewer"


def test_a_deletion_says_what_happens_at_the_next_sign_in(alice, settings):
    carol = UserFactory(username=CAROL)
    said = deleted_users.consequence(carol)
    assert "creates the user again, with at most the role user" in said
    assert "disable the user, or delete the user and block the name" in said
    assert "also blocks the name" in deleted_users.consequence(UserFactory(is_active=False))
    assert deleted_users.consequence(UserFactory(username="carol")) == "", "a plain name, which single sign-on cannot send"
    settings.AUTH_CREATE_USERS = False
    assert "cannot return" in deleted_users.consequence(carol)
    settings.AUTH_USER_HEADER_FORMAT = "off"
    assert deleted_users.consequence(carol) == ""


def test_a_name_that_single_sign_on_cannot_send_is_not_blocked(alice):
    with pytest.raises(Invalid):
        delete(UserFactory(username="carol"), block=True)
    delete(User.objects.get(username="carol"))
    assert not DeletedUser.objects.exists()


def test_an_admin_who_creates_a_blocked_user_unblocks_them(alice):
    delete(UserFactory(username=CAROL), block=True)
    users.create_user(actor=principal(alice), username=CAROL, role="viewer")
    assert Entry.objects.first().data["unblocked"] is True
    assert who().role == "viewer"


def test_promise_30_who_unblocks_a_user_has_the_permissions_that_the_user_had(alice, bob):
    delete(UserFactory(username=CAROL, role=alice.role), block=True)
    clerk = replace(principal(bob), permissions=bob.permissions | {"users:write"})
    for actor in (principal(bob), clerk):
        with pytest.raises(Forbidden):
            deleted_users.set_blocked(actor=actor, username=CAROL, blocked=False)
        with pytest.raises(Forbidden):
            users.create_user(actor=actor, username=CAROL, role="viewer")
    assert DeletedUser.objects.get().blocked
    with pytest.raises(NotFound):
        deleted_users.set_blocked(actor=principal(alice), username="nobody@example.com", blocked=True)


# odd values: each row is what a proxy sent, and what became of it

ODD_GROUPS = {  # the header with the groups, and the groups of the user
    "one": ("dev", ("dev",)),
    "blanks around them": (" dev ,\tops , ,", ("dev", "ops")),
    "outside ASCII": ("équipe,dev", ("équipe", "dev")),
    "a path as Keycloak sends it": ("/team/dev,dev", ("/team/dev", "dev")),
    "300 ids as Entra ID sends them": (
        ",".join(f"{n:08x}-0000-4000-8000-000000000000" for n in range(300)),
        tuple(f"{n:08x}-0000-4000-8000-000000000000" for n in range(300)),
    ),
    "a quoted one": ('"dev"', ('"dev"',)),
    "another separator": ("dev;ops", ("dev;ops",)),
}


@pytest.mark.parametrize(("text", "expected"), ODD_GROUPS.values(), ids=ODD_GROUPS)
def test_the_groups_of_a_header(text, expected):
    assert who(groups=text).groups == expected


@pytest.mark.parametrize(("separator", "text"), [(";", "dev;ops, 1"), ("|", "dev | ops, 1"), (" ", "dev  ops,1")])
def test_the_separator_of_groups_is_a_setting(settings, separator, text):
    settings.AUTH_GROUPS_SEPARATOR = separator
    first, second = who(groups=text).groups
    assert (first, second.replace(" ", "")) == ("dev", "ops,1")


@pytest.mark.parametrize("fault", ["the groups header is repeated", "the groups header is not UTF-8"])
def test_promise_50_a_fault_in_the_groups_costs_the_groups_and_is_logged_with_the_user(alice, fault):
    UserFactory(username=CAROL, role=role("admin"), role_source=RoleSource.GROUP)
    found = who(groups_fault=fault)
    assert (found.name, found.groups, found.role) == (CAROL, (), "viewer"), "no groups, and never the groups of before"
    entry = Entry.objects.filter(event="sign-in.groups-ignored").get()
    assert (entry.actor, entry.actor_uid, entry.reason) == (CAROL, found.uid, fault)
    assert seen() == ("viewer", RoleSource.DEFAULT)


REFUSED = {  # the header with the user, and what the audit log shows of it
    "two addresses": ("a@example.com b@example.com", "a@example.com b@example.com"),
    "a long address": ("a" * 400 + "@example.com", None),
    "an address with a control character": ("a\x1b[2J@example.com", "a\ufffd[2J@example.com"),
    "a short name": ("carol", "carol"),
    "a name with a domain": ("CORP\\carol", "CORP\\carol"),
    "a token in the wrong header": ("eyJhbGciOiJSUzI1NiJ9.e30.c2VjcmV0", "eyJhbGciOiJS... (33 characters)"),
    "a provider's prefix": (f"accounts.google.com:{CAROL}", f"accounts.google.com:{CAROL}"),
    "an IDN in capitals": ("carol@BÜCHER.example", "carol@BÜCHER.example"),
}


@pytest.mark.parametrize(("sent", "shown"), REFUSED.values(), ids=REFUSED)
def test_a_refused_identity_is_in_the_audit_entry(sent, shown):
    with pytest.raises(InvalidCredential):
        who(sent)
    entry = Entry.objects.get()
    assert entry.actor == (sent[:100] if shown is None else shown)
    assert (entry.actor_uid, entry.event) == ("", "sign-in.refused")
    assert not User.objects.exists()


@pytest.mark.parametrize("sent", ["carol@localhost", "carol@bücher.example"])
def test_an_identity_that_mail_may_not_reach_can_be_changed_like_any_other(alice, sent):
    user = User.objects.get(uid=who(sent).uid)
    assert user.email in ("", user.username)
    users.update_profile(actor=principal(alice), user=user, display_name="Carol")
    assert who(sent).display_name == "Carol"


def test_the_prefix_of_the_provider_is_a_setting(settings):
    settings.AUTH_USER_PREFIX = "accounts.google.com:"
    assert who(f"accounts.google.com:{CAROL}").name == CAROL
    with pytest.raises(InvalidCredential, match=r"An identity starts with accounts\.google\.com: \(AUTH_USER_PREFIX\)"):
        who(CAROL)
