"""Users whom a trusted proxy names: created at their first sign-in, with the role of their groups."""

import pytest

from accounts import selectors
from accounts.identifiers import user_uid
from accounts.models import GroupRole, RoleSource, SignIn, User
from accounts.services import groups, offboarding, users
from audit.models import Entry
from authn import identify, sso
from authn.credentials import ProxyHeader
from core.errors import Conflict, Forbidden, Invalid, NotFound, Stale
from rbac import services as role_services
from rbac.models import Role
from rbac.permissions import EVERYTHING
from rbac.principals import Kind, Principal
from tests.factories import GroupRoleFactory, UserFactory, principal

pytestmark = pytest.mark.django_db
CAROL = "carol@example.com"


@pytest.fixture(autouse=True)
def default_user(settings):
    settings.RBAC_DEFAULT_ROLE = "user"


def role(name):
    return Role.objects.get(name=name)


@pytest.fixture
def mapped():
    """The groups ops (viewer), dev (user) and root (admin), the strongest last in rank."""
    for priority, (group, name) in enumerate((("ops", "viewer"), ("dev", "user"), ("root", "admin")), 1):
        GroupRoleFactory(group=group, role=role(name), priority=priority)


def seen(username=CAROL):
    user = User.objects.get(username=username)
    return (user.role.name, user.role_source)


def last():
    entry = Entry.objects.first()
    return (entry.event, entry.actor, entry.target, entry.data)


def test_a_user_whose_role_could_not_be_changed_is_not_cached(alice, settings):
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    settings.RBAC_DEFAULT_ROLE = "user"
    alice.role_source = "group"
    alice.save()
    kept = identify.authenticate(ProxyHeader(alice.username, "staff"), client="192.0.2.7")
    assert (kept.principal.role, kept.until) == ("admin", 0), "the last admin keeps the role, until there is another one"
    UserFactory(role=alice.role)
    lost = identify.authenticate(ProxyHeader(alice.username, "staff"), client="192.0.2.7")
    assert (lost.principal.role, lost.until) == ("user", identify.FOREVER)


def test_a_user_is_created_at_the_first_sign_in():
    user = sso.sign_in(CAROL, None)
    row = User.objects.get()
    assert (user.pk, user.username, user.role, user.sign_in) == (row.pk, CAROL, "user", SignIn.SSO)
    assert (row.uid, row.email, row.role_source, row.has_usable_password()) == (user_uid(CAROL), CAROL, "default", False)
    assert last() == ("user.created", "single sign-on", CAROL, {"role": "user", "sign_in": "sso"})
    assert sso.sign_in(CAROL, None).pk == user.pk
    assert User.objects.count() == Entry.objects.count() == 1


def test_promise_34_only_the_first_user_becomes_admin(settings):
    settings.RBAC_DEFAULT_ROLE = "first-admin"
    assert [sso.sign_in(f"{name}@example.com", None).role for name in ("carol", "dan", "erin")] == ["admin", "user", "user"]


def test_no_user_is_created_where_that_is_switched_off(settings, bob):
    settings.AUTH_CREATE_USERS = False
    assert sso.sign_in(CAROL, ("dev",)) is None
    assert sso.sign_in("bob@example.com", None).pk == bob.pk
    assert User.objects.count() == 1


def test_an_id_that_collides_gets_the_next_free_derivation():
    UserFactory(username="other@example.com", uid=user_uid(CAROL))
    assert sso.sign_in(CAROL, None).uid == user_uid(CAROL, 1)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, ("user", "default")),
        ((), ("user", "default")),
        (("unknown",), ("user", "default")),
        (("ops",), ("viewer", "group")),
        (("root",), ("admin", "group")),
        (("root", "dev"), ("user", "group")),  # the lowest number decides, not the strongest
        (("root", "dev", "ops"), ("viewer", "group")),
        (("OPS",), ("user", "default")),
        (("ops ",), ("user", "default")),
    ],
)
def test_a_first_time_user_has_the_role_of_their_groups(mapped, said, expected):
    sso.sign_in(CAROL, said)
    assert seen() == expected


@pytest.mark.parametrize(
    ("before", "said", "after"),
    [
        (("user", "default"), None, ("user", "default")),
        (("user", "default"), ("root",), ("admin", "group")),
        (("user", "manual"), ("ops",), ("viewer", "group")),
        (("user", "manual"), (), ("user", "manual")),
        (("viewer", "manual"), ("unknown",), ("viewer", "manual")),
        (("admin", "group"), ("root",), ("admin", "group")),
        (("admin", "group"), ("ops",), ("viewer", "group")),
        (("admin", "group"), (), ("user", "default")),
        (("admin", "group"), ("unknown",), ("user", "default")),
        (("admin", "group"), None, ("admin", "group")),
        (("viewer", "manual"), ("ops",), ("viewer", "group")),
    ],
)
def test_promise_15_a_role_comes_and_goes_with_its_group(alice, mapped, before, said, after):
    UserFactory(username=CAROL, role=role(before[0]), role_source=before[1])
    assert sso.sign_in(CAROL, said).role == after[0]
    assert seen() == after


@pytest.mark.parametrize("meanwhile", ["parallel", "admin"])
def test_a_role_that_has_been_given_meanwhile_is_not_lost_with_the_group(alice, mapped, settings, monkeypatch, meanwhile):
    settings.RBAC_DEFAULT_ROLE = "viewer"
    UserFactory(username=CAROL, role=role("user"), role_source="manual")
    sso.sign_in(CAROL, ("root",))
    before = selectors.user_by_name(CAROL)
    if meanwhile == "parallel":
        sso.sign_in(CAROL, ())
    else:
        users.set_role(actor=principal(alice), user=User.objects.get(username=CAROL), role="user")
    assert seen() == ("user", "manual")
    # The request has read the user before that change, and decides after it.
    read = iter([before])
    real = selectors.user_by_name
    monkeypatch.setattr(selectors, "user_by_name", lambda name: next(read, None) or real(name))
    assert sso.sign_in(CAROL, ()).role == "user"
    assert seen() == ("user", "manual")


def test_promise_33_the_last_admin_keeps_their_role_whatever_the_groups_are(alice, mapped, caplog):
    User.objects.update(role_source=RoleSource.GROUP)
    for said in (("ops",), ()):
        user = sso.sign_in("alice@example.com", said)
        assert user.role == "admin"
        assert user.permissions == EVERYTHING
    assert seen("alice@example.com") == ("admin", "group")
    assert "last active admin" in caplog.text
    UserFactory(role=role("admin"))
    assert sso.sign_in("alice@example.com", ("ops",)).role == "viewer"


def test_a_deleted_default_role_changes_no_user(alice, settings, caplog):
    UserFactory(username=CAROL, role=role("viewer"), role_source=RoleSource.GROUP)
    settings.RBAC_DEFAULT_ROLE = "gone"
    assert sso.sign_in(CAROL, ()).role == "viewer"
    assert "stays as it is" in caplog.text


@pytest.mark.parametrize("changes", [{"is_active": False}, {"sign_in": SignIn.PASSWORD}])
def test_a_user_who_cannot_use_single_sign_on_gets_no_role_from_it(mapped, changes):
    UserFactory(username=CAROL, **changes)
    assert sso.sign_in(CAROL, ("root",)).role == "user"
    assert seen() == ("user", "default")
    assert not Entry.objects.exists()


def test_a_role_from_a_group_is_recorded(alice, mapped):
    UserFactory(username=CAROL)
    sso.sign_in(CAROL, ("ops",))
    assert last() == ("user.updated", "single sign-on", CAROL, {"old": {"role": "user"}, "new": {"role": "viewer"}})
    written = Entry.objects.count()
    sso.sign_in(CAROL, ("ops",))
    assert Entry.objects.count() == written


# which group gives which role


def holding(*permissions):
    return Principal(Kind.USER, "ffffffff", "olga@example.com", role="ops", permissions=frozenset(permissions))


def test_a_group_role_is_created_changed_and_deleted(alice):
    actor = principal(alice)
    row = groups.create_group_role(actor=actor, group="Platform Team", role="viewer", priority=5)
    assert (row.group, row.role.name, row.priority) == ("Platform Team", "viewer", 5)
    assert last()[0::2] == ("group-role.created", "Platform Team")
    groups.update_group_role(actor=actor, group="Platform Team", role="user")
    groups.update_group_role(actor=actor, group="Platform Team", priority=9)
    assert last()[3] == {"old": {"role": "user", "priority": 5}, "new": {"role": "user", "priority": 9}}
    written = Entry.objects.count()
    groups.update_group_role(actor=actor, group="Platform Team", priority=9)
    assert Entry.objects.count() == written
    with pytest.raises(Stale):
        groups.update_group_role(actor=actor, group="Platform Team", role="viewer", if_match=("user", 5))
    groups.update_group_role(actor=actor, group="Platform Team", role="user", if_match=("user", 9))
    assert Entry.objects.count() == written
    groups.delete_group_role(actor=actor, group="Platform Team")
    assert last() == ("group-role.deleted", "alice@example.com", "Platform Team", {"role": "user"})
    assert not GroupRole.objects.exists()


def test_a_bad_group_is_refused(alice):
    actor = principal(alice)
    groups.create_group_role(actor=actor, group="dev", role="user")
    for fields, refusal in (
        ({"group": "dev", "role": "viewer"}, Conflict),
        ({"group": "", "role": "viewer"}, Invalid),
        ({"group": "x" * 201, "role": "viewer"}, Invalid),
        ({"group": "ops", "role": "nosuch"}, Invalid),
        ({"group": "ops", "role": "user", "priority": -1}, Invalid),
    ):
        with pytest.raises(refusal) as raised:
            groups.create_group_role(actor=actor, **fields)
        assert raised.value.fields
    with pytest.raises(Invalid):
        groups.update_group_role(actor=actor, group="dev", priority=-1)
    for call in (groups.update_group_role, groups.delete_group_role):
        with pytest.raises(NotFound):
            call(actor=actor, group="nosuch")


NEVER = {  # a group that no user can be in, what the error says, and whether it is one for a list in a JWT, too
    "nothing": ("", "Write the name", True),
    "blanks": ("  ", "Write the name", True),
    "a blank before": (" dev", "starts or ends with a blank", True),
    "a blank after": ("dev ", "starts or ends with a blank", True),
    "a line break": ("dev\nops", "control character", True),
    "a NUL": ("dev\0", "control character", True),
    "two groups": ("dev,ops", "For several groups, add each one alone", False),
    "a distinguished name": ("CN=dev,OU=groups", "For one group with such a name, use another separator", False),
}


@pytest.mark.parametrize(("group", "message", "also_in_a_jwt"), NEVER.values(), ids=NEVER)
def test_a_group_that_can_never_match_is_refused_in_words(alice, settings, group, message, also_in_a_jwt):
    for format_ in ("plaintext", *(("jwt", "off") if also_in_a_jwt else ())):
        settings.AUTH_USER_HEADER_FORMAT = format_
        with pytest.raises(Invalid, match=message) as raised:
            groups.create_group_role(actor=principal(alice), group=group, role="viewer")
        assert set(raised.value.fields) == {"group"}
    assert not GroupRole.objects.exists()
    if not also_in_a_jwt:
        settings.AUTH_USER_HEADER_FORMAT = "jwt"
        assert groups.create_group_role(actor=principal(alice), group=group, role="viewer").group == group


CLERK = holding("roles:write", "upstream:public", "upstream:read")
ESCALATIONS = {
    "letting a group give admin": lambda: groups.create_group_role(actor=CLERK, group="mine", role="admin"),
    "raising a group": lambda: groups.update_group_role(actor=CLERK, group="weak", role="admin"),
    "lowering a stronger group": lambda: groups.update_group_role(actor=CLERK, group="root", role="weak"),
    "reordering a stronger group": lambda: groups.update_group_role(actor=CLERK, group="root", priority=1),
    "forgetting a stronger group": lambda: groups.delete_group_role(actor=CLERK, group="root"),
}


@pytest.mark.parametrize("attempt", ESCALATIONS.values(), ids=ESCALATIONS)
def test_promise_30_a_group_role_cannot_exceed_the_actors_permissions(attempt):
    weak = Role.objects.create(name="weak", permissions=["upstream:read"])
    GroupRoleFactory(group="weak", role=weak)
    GroupRoleFactory(group="root", role=role("admin"))
    before = list(GroupRole.objects.values())
    with pytest.raises(Forbidden):
        attempt()
    assert list(GroupRole.objects.values()) == before
    assert not Entry.objects.exists()


@pytest.mark.parametrize(
    "call",
    [
        lambda who: groups.create_group_role(actor=who, group="x", role="viewer"),
        lambda who: groups.update_group_role(actor=who, group="x"),
        lambda who: groups.delete_group_role(actor=who, group="x"),
    ],
)
def test_promise_35_group_roles_require_roles_write(bob, call):
    for who in (principal(bob), holding(*(EVERYTHING - {"roles:write"}))):
        with pytest.raises(Forbidden):
            call(who)


def test_the_role_of_a_deleted_group_is_lost_at_the_next_sign_in(alice, system, mapped):
    sso.sign_in(CAROL, ("ops",))
    groups.delete_group_role(actor=system, group="ops")
    assert seen() == ("viewer", "group")
    sso.sign_in(CAROL, ("ops",))
    assert seen() == ("viewer", "default"), "and no greater one than before"
    assert users.active_admins() == 1


SLIPPING = {
    "a higher number": lambda actor: groups.update_group_role(actor=actor, group="ops", priority=9),
    "the number of the other group": lambda actor: groups.update_group_role(actor=actor, group="ops", priority=3),
    "a higher number and another role": lambda actor: groups.update_group_role(
        actor=actor, group="ops", role="viewer", priority=9
    ),
    "a deletion": lambda actor: groups.delete_group_role(actor=actor, group="ops"),
}


@pytest.mark.parametrize("slip", SLIPPING.values(), ids=SLIPPING)
def test_promise_30_nobody_lets_a_group_decide_that_gives_more_than_they_have(mapped, alice, slip):
    """Members of ops and root are viewers, as long as ops decides."""
    weak = Principal(Kind.USER, "ffffffff", "olga", permissions=role("user").holds | {"roles:write"})
    before = list(GroupRole.objects.order_by("pk").values())
    with pytest.raises(Forbidden, match="let other groups decide before the group ops"):
        slip(weak)
    assert list(GroupRole.objects.order_by("pk").values()) == before
    slip(principal(alice))


def test_a_group_can_give_way_to_groups_that_give_no_more_than_the_actor_has(mapped):
    weak = Principal(Kind.USER, "ffffffff", "olga", permissions=role("user").holds | {"roles:write"})
    assert groups.update_group_role(actor=weak, group="ops", priority=2).priority == 2
    assert groups.update_group_role(actor=weak, group="dev", priority=0).priority == 0


@pytest.mark.parametrize("held", ["deleted", "before a group"])
def test_promise_47_a_later_role_of_the_same_name_is_not_the_role_that_was_deleted(system, settings, held):
    settings.RBAC_DEFAULT_ROLE = "admin"
    ops = role_services.create_role(actor=system, name="ops", permissions=["upstream:read"])
    user = UserFactory(username=CAROL, role=ops, role_source=RoleSource.MANUAL)
    if held == "deleted":
        offboarding.delete_user(actor=system, user=user)
    else:
        GroupRoleFactory(group="dev", role=role("user"))
        sso.sign_in(CAROL, ("dev",))
    role_services.delete_role(actor=system, name="ops")
    role_services.create_role(actor=system, name="ops", permissions=[*role("user").holds, "audit:read"])
    found = sso.sign_in(CAROL, ())
    assert found.role != "ops"
    assert "audit:read" not in found.permissions
