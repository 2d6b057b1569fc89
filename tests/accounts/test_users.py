"""Users: what each service does, refuses and records."""

from dataclasses import replace

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.hashers import check_password, make_password

from accounts.identifiers import user_uid
from accounts.models import RoleSource, ServiceAccount, SignIn, User
from accounts.principal_lookup import service_account_principal
from accounts.services import offboarding, users
from accounts.services.offboarding import AccountAction
from audit.models import Entry
from authn import own_password
from core.errors import Conflict, Forbidden, Invalid, NotFound
from rbac import principals
from rbac.models import Role
from rbac.permissions import EVERYTHING
from rbac.principals import Kind, Principal
from tests.factories import PASSWORD, GroupRoleFactory, ServiceAccountFactory, UserFactory, principal

pytestmark = pytest.mark.django_db
GOOD = "another good phrase"


def holding(*permissions, role="ops"):
    return Principal(Kind.USER, "ffffffff", "olga@example.com", role=role, permissions=frozenset(permissions), peer="192.0.2.7")


def role(name):
    return Role.objects.get(name=name)


def last():
    entry = Entry.objects.first()
    return (entry.event, entry.target, entry.data)


# creating


def test_a_user_with_a_password_is_created_and_recorded(system):
    user = users.create_user(actor=system, username="Carol@Example.com", password=GOOD, role="viewer", display_name="Carol")
    user.refresh_from_db()
    assert (user.username, user.email, user.display_name) == ("carol@example.com", "carol@example.com", "Carol")
    assert (user.uid, user.sign_in, user.role.name, user.role_source) == (
        user_uid("carol@example.com"),
        "password",
        "viewer",
        "manual",
    )
    assert check_password(GOOD, user.password)
    assert last() == ("user.created", "carol@example.com", {"uid": user.uid, "role": "viewer", "sign_in": "password"})
    assert GOOD not in str(list(Entry.objects.values()))


def test_a_user_without_a_password_comes_by_single_sign_on(system):
    user = users.create_user(actor=system, username="carol@example.com", role="user")
    assert (user.sign_in, user.has_usable_password()) == (SignIn.SSO, False)


def test_a_password_hashed_ahead_is_taken_as_it_is(system, alice):
    hashed = users.HashedPassword(alice.password)
    assert alice.password not in repr(hashed)
    user = users.create_user(actor=system, username="carol@example.com", password=hashed, role="user")
    assert (user.password, user.sign_in) == (alice.password, SignIn.PASSWORD)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"username": ""}, "username"),
        ({"username": "a b"}, "username"),
        ({"username": "sa-carol"}, "username"),
        ({"username": "a@b.c,d@e.f"}, "username"),
        ({"username": "carol"}, "username"),  # no address, so no single sign-on
        ({"username": "carol", "sign_in": "password"}, "password"),
        ({"username": "carol", "sign_in": "both", "password": GOOD}, "username"),
        ({"username": "carol@example.com", "sign_in": "magic"}, "sign_in"),
        ({"username": "carol@example.com", "role": "nosuch"}, "role"),
        ({"username": "carol@example.com", "email": "nonsense"}, "email"),
        ({"username": "carol@example.com", "display_name": "x" * 151}, "display_name"),
        ({"username": "carol@example.com", "password": ""}, "password"),
        ({"username": "carol", "password": "short"}, "password"),
        ({"username": "carol", "password": "password123"}, "password"),
        ({"username": "carol.jones", "password": "carol.jones1"}, "password"),
        ({"username": "carol", "password": "x" * 1_025}, "password"),
        ({"username": "carol", "password": "tab\tis a control character"}, "password"),
    ],
)
def test_a_bad_user_is_refused_with_its_field(system, fields, field):
    with pytest.raises(Invalid) as raised:
        users.create_user(actor=system, **fields)
    assert field in raised.value.fields
    assert not User.objects.exists()
    assert not Entry.objects.exists()


def test_a_taken_name_is_refused_in_every_name_space(system, bob, pipeline, settings):
    settings.AUTH_STRING = "team:$apr1$abcdefgh$" + "x" * 22
    for name in ("bob@example.com", "BOB@EXAMPLE.COM", "pipeline", "Pipeline", "team"):
        with pytest.raises(Conflict) as raised:
            users.create_user(actor=system, username=name, password=GOOD)
        assert "username" in raised.value.fields


def test_ids_that_collide_get_the_next_free_derivation(system):
    UserFactory(username="other@example.com", uid=user_uid("carol@example.com"))
    UserFactory(username="third@example.com", uid=user_uid("carol@example.com", 1))
    user = users.create_user(actor=system, username="carol@example.com", role="user")
    assert user.uid == user_uid("carol@example.com", 2)


# nobody grants more than they hold

WEAK = holding("users:write", "upstream:public", "upstream:read")
ESCALATIONS = {
    "creating an admin": lambda admin, weak: users.create_user(actor=WEAK, username="new@example.com", role="admin"),
    "creating a stronger user": lambda admin, weak: users.create_user(actor=WEAK, username="new@example.com", role="user"),
    "promoting": lambda admin, weak: users.set_role(actor=WEAK, user=weak, role="admin"),
    "promoting many": lambda admin, weak: users.bulk_set_role(actor=WEAK, uids=[weak.uid], role="admin"),
    "demoting a stronger one": lambda admin, weak: users.set_role(actor=WEAK, user=admin, role="weak"),
    "disabling a stronger one": lambda admin, weak: users.set_active(actor=WEAK, user=admin, active=False),
    "enabling a stronger one": lambda admin, weak: users.set_active(actor=WEAK, user=admin, active=True),
    "setting a stronger one's password": lambda admin, weak: users.set_password(actor=WEAK, user=admin, password=GOOD),
    "opening a stronger one's sign-in": lambda admin, weak: users.update_profile(actor=WEAK, user=admin, sign_in="both"),
    "deleting a stronger one": lambda admin, weak: offboarding.delete_user(actor=WEAK, user=admin),
    "giving machines to a stronger one": lambda admin, weak: offboarding.delete_user(actor=WEAK, user=weak, transfer_to=admin),
}


def everything():
    """Return all that a failed attempt must leave alone."""
    return (
        list(User.objects.order_by("pk").values()),
        list(ServiceAccount.objects.order_by("pk").values()),
        Entry.objects.count(),
    )


@pytest.mark.parametrize("attempt", ESCALATIONS.values(), ids=ESCALATIONS)
def test_promise_30_nobody_reaches_beyond_what_they_hold(alice, attempt):
    UserFactory(role=role("admin"))
    weak = UserFactory(role=Role.objects.create(name="weak", permissions=["upstream:read"]))
    ServiceAccountFactory(owner=weak, role=weak.role)
    before = everything()
    with pytest.raises(Forbidden):
        attempt(alice, weak)
    assert everything() == before


WAYS_TO_A_PASSWORD_BESIDE_SINGLE_SIGN_ON = {
    "of a new user": lambda actor, sso, local: users.create_user(
        actor=actor, username="boss@example.com", role="weak", password=GOOD, sign_in=SignIn.BOTH
    ),
    "of a user of single sign-on": lambda actor, sso, local: users.set_password(
        actor=actor, user=sso, password=GOOD, sign_in=SignIn.BOTH
    ),
    "by the sign-in method of a local user": lambda actor, sso, local: users.update_profile(
        actor=actor, user=local, sign_in=SignIn.BOTH
    ),
}


@pytest.mark.parametrize("way", WAYS_TO_A_PASSWORD_BESIDE_SINGLE_SIGN_ON.values(), ids=WAYS_TO_A_PASSWORD_BESIDE_SINGLE_SIGN_ON)
def test_promise_30_nobody_knows_the_password_of_a_user_whom_a_group_can_give_more_than_they_have(way):
    weak = Role.objects.create(name="weak", permissions=["upstream:read"])
    sso, local = UserFactory(role=weak, sign_in=SignIn.SSO), UserFactory(role=weak, sign_in=SignIn.PASSWORD)
    GroupRoleFactory(role=weak)
    strong = GroupRoleFactory(role=role("admin"))
    before = everything()
    with pytest.raises(Forbidden, match="where groups give roles"):
        way(WEAK, sso, local)
    assert everything() == before
    strong.delete()
    assert way(WEAK, sso, local).sign_in == SignIn.BOTH, "no group gives more"


def test_a_password_without_single_sign_on_needs_no_permissions_of_groups():
    user = UserFactory(role=Role.objects.create(name="weak", permissions=["upstream:read"]), sign_in=SignIn.BOTH)
    GroupRoleFactory(role=role("admin"))
    assert users.update_profile(actor=WEAK, user=user, display_name="Wanda").sign_in == SignIn.BOTH
    assert users.set_password(actor=WEAK, user=user, password=GOOD, sign_in=SignIn.PASSWORD).sign_in == SignIn.PASSWORD
    assert users.update_profile(actor=WEAK, user=user, sign_in=SignIn.SSO).sign_in == SignIn.SSO


def test_a_service_account_cannot_set_the_password_of_its_owner(alice):
    account = ServiceAccountFactory(owner=alice, role=role("admin"))
    with pytest.raises(Forbidden, match="you need the current one"):
        users.set_password(actor=service_account_principal(account)[0], user=alice, password=GOOD)


def test_promise_15_a_bulk_action_ends_when_its_actor_loses_the_permission(alice, bob, vera, system, monkeypatch):
    carol, set_role = UserFactory(role=role("admin")), users.set_role

    def demoted_after_the_first(**change):
        changed = set_role(**change)
        if change["user"] == bob:
            set_role(actor=system, user=alice, role="viewer")
        return changed

    monkeypatch.setattr(users, "set_role", demoted_after_the_first)
    outcomes = users.bulk_set_role(actor=principal(alice), uids=[bob.uid, vera.uid], role="admin")
    assert [outcome.error for outcome in outcomes] == [None, "Your permissions were reduced in the meantime."]
    assert carol.role.name == "admin" == User.objects.get(pk=bob.pk).role.name
    assert User.objects.get(pk=vera.pk).role.name == "viewer"


def test_a_bulk_action_changes_the_role_of_its_actor_last(alice, bob):
    UserFactory(role=role("admin"))
    outcomes = users.bulk_set_role(actor=principal(alice), uids=[alice.uid, bob.uid], role="viewer")
    assert [(outcome.target, outcome.error) for outcome in outcomes] == [(bob.uid, None), (alice.uid, None)]


def test_what_is_within_ones_own_permissions_is_allowed():
    weak = UserFactory(role=Role.objects.create(name="weak", permissions=["upstream:read"]))
    assert users.set_active(actor=WEAK, user=weak, active=False).is_active is False
    assert users.set_password(actor=WEAK, user=weak, password=GOOD)
    assert users.create_user(actor=WEAK, username="new@example.com", role="weak").role == weak.role


CALLS = {
    "create_user": lambda who, bob: users.create_user(actor=who, username="new@example.com"),
    "set_role": lambda who, bob: users.set_role(actor=who, user=bob, role="viewer"),
    "set_active": lambda who, bob: users.set_active(actor=who, user=bob, active=False),
    "update_profile": lambda who, bob: users.update_profile(actor=who, user=bob, display_name="x"),
    "set_password": lambda who, bob: users.set_password(actor=who, user=bob, password=GOOD),
    "delete_user": lambda who, bob: offboarding.delete_user(actor=who, user=bob),
    "bulk_set_role": lambda who, bob: users.bulk_set_role(actor=who, uids=[bob.uid], role="viewer"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("who", ["anonymous", "shared", "bob himself", "all but the one"])
def test_promise_35_who_may_not_write_users_writes_none(bob, call, who):
    actor = {
        "anonymous": principals.ANONYMOUS,
        "shared": principals.shared("team", ""),
        "bob himself": principal(bob),
        "all but the one": holding(*(EVERYTHING - {"users:write"})),
    }[who]
    before = everything()
    with pytest.raises(Forbidden):
        call(actor, bob)
    assert everything() == before


# never zero active admins

ENDS = {
    "demoting": lambda actor, user: users.set_role(actor=actor, user=user, role="user"),
    "demoting by a group": lambda actor, user: users.set_role(actor=actor, user=user, role="user", source=RoleSource.GROUP),
    "disabling": lambda actor, user: users.set_active(actor=actor, user=user, active=False),
    "deleting": lambda actor, user: offboarding.delete_user(actor=actor, user=user),
    "deleting with a successor": lambda actor, user: offboarding.delete_user(actor=actor, user=user, transfer_to=UserFactory()),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("who", ["system", "themselves"])
@pytest.mark.parametrize("other", ["no other", "a disabled one", "an ordinary user"])
def test_promise_33_the_last_active_admin_stays(alice, system, end, who, other):
    if other != "no other":
        UserFactory(role=role("admin" if "disabled" in other else "user"), is_active="disabled" not in other)
    with pytest.raises(Conflict, match="last active admin"):
        end(system if who == "system" else principal(alice), alice)
    alice.refresh_from_db()
    assert alice.is_superuser


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_promise_33_one_of_two_admins_may_go(alice, system, end):
    UserFactory(role=role("admin"))
    end(system, alice)
    assert users.active_admins() == 1


def test_promise_33_many_at_once_leave_the_last_admin_and_say_so(alice, bob, system):
    second = UserFactory(role=role("admin"))
    outcomes = users.bulk_set_role(actor=system, uids=[alice.uid, second.uid, "nosuch", bob.uid], role="viewer")
    assert [(one.target, one.error is None) for one in outcomes] == [
        (alice.uid, True), (second.uid, False), ("nosuch", False), (bob.uid, True)
    ]  # fmt: skip
    assert "last active admin" in outcomes[1].error
    assert users.active_admins() == 1


def test_a_disabled_admin_may_be_demoted_and_deleted(alice, system):
    other = UserFactory(role=role("admin"), is_active=False)
    users.set_role(actor=system, user=other, role="user")
    offboarding.delete_user(actor=system, user=other)
    assert users.active_admins() == 1


# changing


def test_a_role_is_given_and_old_and_new_are_recorded(bob, system):
    user = users.set_role(actor=system, user=bob, role="viewer")
    assert (user.role.name, user.role_source) == ("viewer", RoleSource.MANUAL)
    assert last() == ("user.updated", "bob@example.com", {"old": {"role": "user"}, "new": {"role": "viewer"}})
    written = Entry.objects.count()
    users.set_role(actor=system, user=bob, role="viewer")
    assert Entry.objects.count() == written, "nothing changed, so nothing happened"
    with pytest.raises(Invalid, match="admin, user, viewer"):
        users.set_role(actor=system, user=bob, role="nosuch")


def test_disabling_and_enabling_are_recorded_once(bob, system):
    for active in (False, False, True, True):
        assert users.set_active(actor=system, user=bob, active=active).is_active is active
    assert [entry.data["new"] for entry in Entry.objects.order_by("id")] == [{"active": False}, {"active": True}]


def test_a_profile_changes_what_does_not_decide(bob, system):
    user = users.update_profile(actor=system, user=bob, email="B@Example.com", display_name="Bob", sign_in="sso")
    assert (user.email, user.display_name, user.sign_in) == ("b@example.com", "Bob", "sso")
    assert last()[2]["old"] == {"email": "bob@example.com", "display_name": "", "sign_in": "both"}
    written = Entry.objects.count()
    users.update_profile(actor=system, user=bob, display_name="Bob")
    assert Entry.objects.count() == written
    assert users.update_profile(actor=system, user=bob, email="").email == ""


@pytest.mark.parametrize(
    ("username", "password", "fields", "field"),
    [
        ("bob@example.com", PASSWORD, {"email": "x"}, "email"),
        ("bob@example.com", PASSWORD, {"sign_in": "magic"}, "sign_in"),
        ("bob@example.com", PASSWORD, {"display_name": "x" * 151}, "display_name"),
        ("bob", PASSWORD, {"sign_in": "sso"}, "sign_in"),
        ("bob", PASSWORD, {"sign_in": "both"}, "sign_in"),
        ("bob@example.com", None, {"sign_in": "password"}, "sign_in"),
        ("bob@example.com", None, {"sign_in": "both"}, "sign_in"),
    ],
)
def test_a_bad_profile_is_refused_with_its_field(system, username, password, fields, field):
    user = users.create_user(actor=system, username=username, password=password, role="user")
    with pytest.raises(Invalid) as raised:
        users.update_profile(actor=system, user=user, **fields)
    assert field in raised.value.fields


@pytest.mark.parametrize(
    ("before", "chosen", "after"),
    [
        ("password", None, "password"),
        ("password", "both", "both"),
        ("both", None, "both"),
        ("both", "password", "password"),
        ("sso", "both", "both"),
        ("sso", "password", "password"),
    ],
)
def test_a_password_is_set_and_the_sign_in_method_before_and_after_is_recorded(bob, system, before, chosen, after):
    User.objects.filter(pk=bob.pk).update(sign_in=before)
    user = users.set_password(actor=system, user=bob, password=GOOD, sign_in=chosen)
    assert check_password(GOOD, user.password)
    assert User.objects.get(pk=bob.pk).sign_in == after
    data = {"old": {"sign_in": before}, "new": {"sign_in": after}}
    assert last() == ("user.password-changed", "bob@example.com", data)


@pytest.mark.parametrize(("before", "chosen"), [("sso", None), ("sso", "sso"), ("both", "sso"), ("both", "magic")])
def test_a_password_opens_no_second_way_in_that_nobody_chose(bob, system, before, chosen):
    User.objects.filter(pk=bob.pk).update(sign_in=before)
    with pytest.raises(Invalid) as raised:
        users.set_password(actor=system, user=bob, password=GOOD, sign_in=chosen)
    assert "sign_in" in raised.value.fields
    bob.refresh_from_db()
    assert (bob.sign_in, check_password(PASSWORD, bob.password)) == (before, True)
    assert not Entry.objects.exists()


def test_a_weak_password_is_not_set(bob, system):
    with pytest.raises(Invalid):
        users.set_password(actor=system, user=bob, password="short")


def test_a_user_of_single_sign_on_opens_no_second_way_in_with_an_old_password(bob):
    User.objects.filter(pk=bob.pk).update(sign_in=SignIn.SSO)  # the hash stays
    for change in (
        lambda: own_password.change_own_password(actor=principal(bob), current=PASSWORD, password=GOOD),
        lambda: users.replace_own_password(actor=principal(bob), user=bob, password=GOOD),
    ):
        with pytest.raises(Conflict, match="identity provider"):
            change()
    bob.refresh_from_db()
    assert bob.sign_in == SignIn.SSO


def test_changing_your_own_password_requires_the_current_one(bob):
    with pytest.raises(Invalid) as raised:
        own_password.change_own_password(actor=principal(bob), current="wrong", password=GOOD)
    assert "current_password" in raised.value.fields
    user = own_password.change_own_password(actor=principal(bob), current=PASSWORD, password=GOOD)
    assert check_password(GOOD, user.password)
    assert last()[0] == "user.password-changed"


def test_promise_21_guessing_ones_own_password_is_throttled_like_a_sign_in(bob, settings):
    for n in range(settings.AUTH_FAILURE_LIMIT):
        with pytest.raises(Invalid):
            own_password.change_own_password(actor=principal(bob), current=f"guess {n}", password=GOOD)
    assert AccessAttempt.objects.get().username == "bob@example.com"
    with pytest.raises(Invalid):
        own_password.change_own_password(actor=principal(bob), current=PASSWORD, password=GOOD)
    AccessAttempt.objects.all().delete()
    with pytest.raises(Invalid):
        own_password.change_own_password(actor=principal(bob), current="x" * 2_000, password=GOOD)
    assert own_password.change_own_password(actor=principal(bob), current=PASSWORD, password=GOOD)
    assert not AccessAttempt.objects.exists()


def test_promise_44_a_password_that_changed_meanwhile_is_not_overwritten(bob, monkeypatch):
    matches_hash = own_password.matches_hash

    def slow(*args):
        fits = matches_hash(*args)
        User.objects.filter(pk=bob.pk).update(password=make_password("somebody else's phrase"))
        return fits

    monkeypatch.setattr(own_password, "matches_hash", slow)  # what happens between the check and the act
    with pytest.raises(Conflict, match="in the meantime"):
        own_password.change_own_password(actor=principal(bob), current=PASSWORD, password=GOOD)
    assert check_password("somebody else's phrase", User.objects.get().password)


def test_a_user_without_a_password_cannot_change_it(bob, vera, pipeline, system):
    machine = Principal(Kind.SERVICE_ACCOUNT, pipeline.uid, "pipeline", permissions=frozenset({"password:own"}), owner=bob.pk)
    sso = users.create_user(actor=system, username="carol@example.com", role="user")
    reader = replace(principal(vera), permissions=frozenset({"upstream:read"}))
    for actor, refusal in ((machine, Forbidden), (reader, Forbidden), (principal(sso), Conflict), (system, Forbidden)):
        with pytest.raises(refusal):
            own_password.change_own_password(actor=actor, current=PASSWORD, password=GOOD)


# deleting


def test_deleting_a_user_keeps_the_accounts_without_an_owner_and_within_their_permissions(bob, pipeline, system):
    stronger = ServiceAccountFactory(name="stronger", owner=bob, role=role("admin"))
    offboarding.delete_user(actor=system, user=bob)
    pipeline.refresh_from_db()
    stronger.refresh_from_db()
    assert (pipeline.owner, pipeline.role.name, pipeline.is_active) == (None, "user", True)
    assert (stronger.owner, stronger.role.name) == (None, "user"), "what its owner capped stays capped"
    event, target, data = last()
    assert (event, target) == ("user.deleted", "bob@example.com")
    assert (data["role"], sorted(data["service_accounts"])) == ("user", ["pipeline", "stronger"])


def test_promise_14_deleting_a_disabled_user_does_not_enable_their_accounts(bob, pipeline, system):
    User.objects.filter(pk=bob.pk).update(is_active=False)
    offboarding.delete_user(actor=system, user=bob)
    pipeline.refresh_from_db()
    assert (pipeline.owner, pipeline.is_active) == (None, False)


def test_service_accounts_can_be_transferred(bob, vera, pipeline, system):
    offboarding.delete_user(actor=system, user=bob, transfer_to=vera)
    pipeline.refresh_from_db()
    assert (pipeline.owner, pipeline.is_active) == (vera, True)
    assert last()[2]["transferred_to"] == "vera@example.com"


def test_service_accounts_cannot_be_transferred_to_the_deleted_user(bob, pipeline, system):
    with pytest.raises(Invalid) as raised:
        offboarding.delete_user(actor=system, user=bob, transfer_to=bob)
    assert "transfer_to" in raised.value.fields
    pipeline.refresh_from_db()
    assert pipeline.owner == bob


def test_service_accounts_cannot_be_transferred_to_a_disabled_user(bob, vera, pipeline, system):
    User.objects.filter(pk=vera.pk).update(is_active=False)  # `vera` is as she was read before
    for action in (None, AccountAction.TRANSFER):
        with pytest.raises(Invalid) as raised:
            offboarding.delete_user(actor=system, user=bob, account_action=action, transfer_to=vera)
        assert raised.value.fields == {"transfer_to": ["vera@example.com is disabled. Name a user who is active."]}
    pipeline.refresh_from_db()
    assert (pipeline.owner, pipeline.is_active) == (bob, True)


def test_each_service_account_that_a_deletion_changes_is_recorded_with_old_and_new(bob, vera, pipeline, system):
    ServiceAccountFactory(name="stronger", owner=bob, role=role("admin"))
    offboarding.delete_user(actor=system, user=bob, transfer_to=vera)
    entries = {entry.target: entry.data for entry in Entry.objects.filter(event="service-account.updated")}
    common = {"active": True, "description": ""}
    assert entries == {
        "pipeline": {
            "old": {**common, "role": "user", "owner": "bob@example.com"},
            "new": {**common, "role": "user", "owner": "vera@example.com"},
        },
        "stronger": {
            "old": {**common, "role": "admin", "owner": "bob@example.com"},
            "new": {**common, "role": "user", "owner": "vera@example.com"},
        },
    }


def test_a_service_account_that_a_deletion_disables_is_recorded(bob, pipeline, system):
    User.objects.filter(pk=bob.pk).update(is_active=False)
    offboarding.delete_user(actor=system, user=bob)
    [entry] = Entry.objects.filter(event="service-account.updated", target="pipeline")
    assert (entry.data["old"]["active"], entry.data["new"]["active"]) == (True, False)
    assert (entry.data["old"]["owner"], entry.data["new"]["owner"]) == ("bob@example.com", None)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_user_who_was_deleted_in_the_meantime_is_not_found(bob, system, call):
    User.objects.filter(pk=bob.pk).delete()
    if call in (CALLS["create_user"], CALLS["bulk_set_role"]):
        call(system, bob)
        return
    with pytest.raises(NotFound):
        call(system, bob)


@pytest.mark.parametrize("text", ["bob@example.com", "BOB@example.com", user_uid("bob@example.com")])
def test_a_user_is_found_by_name_and_by_id(bob, text):
    assert users.find_user(text) == bob


def test_an_unknown_user_is_not_found(bob):
    for look in (users.find_user, users.get_user):
        with pytest.raises(NotFound):
            look("nosuch")


def test_promise_30_an_account_gains_nothing_by_its_owners_deletion(system):
    ci = Role.objects.create(name="ci", permissions=["upstream:read", "upstream:write"])
    hr = Role.objects.create(name="hr", permissions=["upstream:read", "users:read"])
    dave = UserFactory(role=hr)
    account = ServiceAccountFactory(owner=dave, role=ci)
    offboarding.delete_user(actor=system, user=dave)
    account.refresh_from_db()
    assert (account.role, account.is_active) == (ci, False), "no role says what it could do, so it stops"


def test_promise_14_a_transfer_at_deletion_revives_nothing_of_a_disabled_owner(system, bob, alice):
    account = ServiceAccountFactory(owner=bob)
    users.set_active(actor=system, user=bob, active=False)
    offboarding.delete_user(actor=system, user=bob, transfer_to=alice)
    account.refresh_from_db()
    assert (account.owner, account.is_active) == (alice, False)
