"""Service accounts and their tokens: what each service does, refuses and records."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import token_format
from accounts.models import ServiceAccount, Token, User
from accounts.services import service_accounts, tokens, users
from audit.models import Entry
from authn.credentials import Bearer, InvalidCredential
from authn.identify import identify
from core.errors import Conflict, Forbidden, Invalid, NotFound
from rbac import principals
from rbac.models import Role
from rbac.permissions import EVERYTHING
from rbac.principals import Kind, Method, Principal
from tests.factories import ServiceAccountFactory, UserFactory, make_token, principal

pytestmark = pytest.mark.django_db


def role(name):
    return Role.objects.get(name=name)


def holding(*permissions, owner=None, role="ops"):
    return Principal(Kind.USER, "ffffffff", "olga@example.com", role=role, permissions=frozenset(permissions), owner=owner)


def works(plaintext):
    """Return whether a token opens anything."""
    try:
        return identify(Bearer(plaintext.encode()), client="").kind is Kind.SERVICE_ACCOUNT
    except InvalidCredential:
        return False


def last():
    """Return the newest entry about a change as (event, target, data)."""
    entry = Entry.objects.exclude(event="sign-in.refused").first()
    return (entry.event, entry.target, entry.data)


def everything():
    return (
        list(ServiceAccount.objects.order_by("pk").values()),
        list(Token.objects.order_by("pk").values()),
        Entry.objects.count(),
    )


# creating


def test_a_user_creates_an_account_of_their_own(bob):
    account = service_accounts.create_service_account(actor=principal(bob), name=" Nightly ", description="Builds.")
    account.refresh_from_db()
    assert (account.name, account.owner, account.created_by, account.description) == (
        "nightly",
        bob,
        "bob@example.com",
        "Builds.",
    )
    assert account.uid.startswith("sa-")
    assert last() == (
        "service-account.created",
        "nightly",
        {"uid": account.uid, "role": account.role.name, "owner": "bob@example.com"},
    )


@pytest.mark.parametrize(
    ("setting", "actor_role", "expected"),
    [
        ("admin", "user", "user"),
        ("admin", "admin", "user"),  # admin only when asked for by name
        ("first-admin", "admin", "user"),
        ("viewer", "user", "viewer"),
        ("user", "user", "user"),
    ],
)
def test_promise_30_an_account_without_a_role_gets_a_small_one(settings, setting, actor_role, expected):
    settings.RBAC_DEFAULT_ROLE = setting
    UserFactory(role=role("admin"))
    actor = principal(UserFactory(role=role(actor_role)))
    assert service_accounts.create_service_account(actor=actor, name="nightly").role.name == expected


def test_promise_30_a_default_role_beyond_the_owner_becomes_the_owners(settings, alice, vera):
    settings.RBAC_DEFAULT_ROLE = "user"
    account = service_accounts.create_service_account(actor=principal(alice), name="nightly", owner=vera)
    assert account.role.name == "viewer"


def test_a_user_who_was_deleted_meanwhile_creates_nothing(bob):
    actor = principal(bob)
    bob.delete()
    with pytest.raises(Forbidden, match="deleted"):
        service_accounts.create_service_account(actor=actor, name="ghost", role="user")


def test_an_admin_creates_for_others_and_for_nobody(alice, bob, system):
    assert service_accounts.create_service_account(actor=principal(alice), name="one", owner=bob).owner == bob
    assert service_accounts.create_service_account(actor=principal(alice), name="two", unowned=True).owner is None
    assert service_accounts.create_service_account(actor=principal(alice), name="three", role="admin").owner == alice
    assert service_accounts.create_service_account(actor=system, name="four").owner is None


@pytest.mark.parametrize("name", ["", "7up", "a b", "sa-x", "a@b.c", "a" * 65])
def test_a_bad_name_is_refused(bob, name):
    with pytest.raises(Invalid) as raised:
        service_accounts.create_service_account(actor=principal(bob), name=name)
    assert "name" in raised.value.fields


def test_a_taken_name_is_refused_in_every_name_space(settings, bob, pipeline):
    settings.AUTH_STRING = "team:$apr1$abcdefgh$" + "x" * 22
    UserFactory(username="carol")
    for name in ("pipeline", "Pipeline", "carol", "team"):
        with pytest.raises(Conflict) as raised:
            service_accounts.create_service_account(actor=principal(bob), name=name)
        assert "name" in raised.value.fields


@pytest.mark.parametrize(
    ("fields", "field"), [({"role": "nosuch"}, "role"), ({"description": "x" * 201}, "description"), ({"role": "user"}, "role")]
)
def test_a_bad_account_is_refused_with_its_field(alice, vera, fields, field):
    with pytest.raises(Invalid) as raised:
        service_accounts.create_service_account(actor=principal(alice), name="nightly", owner=vera, **fields)
    assert field in raised.value.fields
    assert not ServiceAccount.objects.exists()


# who may, and no further than they hold


@pytest.fixture
def scene(alice, bob, vera, pipeline):
    """Bob's account and token, alice's admin account and token, and a machine of bob's that acts."""
    admins = ServiceAccountFactory(name="admins", owner=alice, role=role("admin"))
    return {
        "pipeline": pipeline,
        "token": make_token(pipeline)[0],
        "admins": admins,
        "admins_token": make_token(admins)[0],
        "bob": bob,
        "vera": vera,
        "alice": alice,
    }


CALLS = {
    "create_service_account": lambda who, at: service_accounts.create_service_account(actor=who, name="new"),
    "update_service_account": lambda who, at: service_accounts.update_service_account(
        actor=who, account=at["pipeline"], description="x"
    ),
    "delete_service_account": lambda who, at: service_accounts.delete_service_account(actor=who, account=at["pipeline"]),
    "issue_token": lambda who, at: tokens.issue_token(actor=who, account=at["pipeline"]),
    "rotate_token": lambda who, at: tokens.rotate_token(actor=who, token=at["token"]),
    "revoke_token": lambda who, at: tokens.revoke_token(actor=who, token=at["token"]),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("who", ["anonymous", "shared", "vera", "another user", "a reader"])
def test_promise_32_strangers_do_nothing_to_an_account(scene, call, who):
    actor = {
        "anonymous": principals.ANONYMOUS,
        "shared": principals.shared("team", ""),
        "vera": principal(scene["vera"]),
        "another user": principal(UserFactory()),
        "a reader": holding(*(EVERYTHING - {"service-accounts:write", "service-accounts:own"})),
    }[who]
    before = everything()
    if call is CALLS["create_service_account"] and who == "another user":
        call(actor, scene)
        return
    with pytest.raises((Forbidden, NotFound)):
        call(actor, scene)
    assert everything() == before


@pytest.mark.parametrize("who", ["bob", "alice", "system", "bob's own machine"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_account_is_managed_by_its_owner_an_admin_and_the_owners_other_accounts(scene, system, call, who):
    actor = {
        "bob": principal(scene["bob"]),
        "alice": principal(scene["alice"]),
        "system": system,
        "bob's own machine": identify(Bearer(make_token(ServiceAccountFactory(owner=scene["bob"]))[1].encode()), client=""),
    }[who]
    written = Entry.objects.count()
    call(actor, scene)
    assert Entry.objects.count() == written + 1
    assert Entry.objects.first().actor == actor.name


CLERK = holding("service-accounts:write", "upstream:public", "upstream:read")
ESCALATIONS = {
    "creating an admin machine": lambda at: service_accounts.create_service_account(
        actor=CLERK, name="new", role="admin", unowned=True
    ),
    "creating an admin machine for an admin": lambda at: service_accounts.create_service_account(
        actor=CLERK, name="new", role="admin", owner=at["alice"]
    ),
    "a user creating for another": lambda at: service_accounts.create_service_account(
        actor=principal(at["bob"]), name="new", owner=at["alice"]
    ),
    "a user creating without an owner": lambda at: service_accounts.create_service_account(
        actor=principal(at["bob"]), name="new", unowned=True
    ),
    "a user creating an admin machine": lambda at: service_accounts.create_service_account(
        actor=principal(at["bob"]), name="new", role="admin"
    ),
    "raising a machine": lambda at: service_accounts.update_service_account(actor=CLERK, account=at["pipeline"], role="admin"),
    "a user raising their own machine": lambda at: service_accounts.update_service_account(
        actor=principal(at["bob"]), account=at["pipeline"], role="admin"
    ),
    "waking a stronger machine": lambda at: service_accounts.update_service_account(
        actor=CLERK, account=at["admins"], active=True
    ),
    "a user giving their machine away": lambda at: service_accounts.update_service_account(
        actor=principal(at["bob"]), account=at["pipeline"], owner=at["alice"]
    ),
    "a user freeing their machine": lambda at: service_accounts.update_service_account(
        actor=principal(at["bob"]), account=at["pipeline"], unowned=True
    ),
    "freeing a stronger machine": lambda at: service_accounts.update_service_account(
        actor=CLERK, account=at["admins"], unowned=True
    ),
    "giving a machine to a stronger user": lambda at: service_accounts.update_service_account(
        actor=CLERK, account=at["pipeline"], owner=at["alice"]
    ),
    "a token of a stronger machine": lambda at: tokens.issue_token(actor=CLERK, account=at["admins"]),
    "a successor of a stronger machine's token": lambda at: tokens.rotate_token(actor=CLERK, token=at["admins_token"]),
}


@pytest.mark.parametrize("attempt", ESCALATIONS.values(), ids=ESCALATIONS)
def test_promise_30_nobody_gains_permissions_through_a_service_account(scene, attempt):
    before = everything()
    with pytest.raises(Forbidden):
        attempt(scene)
    assert everything() == before


def test_promise_30_an_account_limited_by_its_demoted_owner_cannot_be_freed_by_that_owner(alice, scene):
    UserFactory(role=role("admin"))
    User.objects.filter(pk=alice.pk).update(role=role("user"))
    alice.refresh_from_db()
    for attempt in (
        lambda: tokens.issue_token(actor=principal(alice), account=scene["admins"]),
        lambda: tokens.rotate_token(actor=principal(alice), token=scene["admins_token"]),
        lambda: service_accounts.update_service_account(actor=principal(alice), account=scene["admins"], active=True),
    ):
        with pytest.raises(Forbidden):
            attempt()
    tokens.revoke_token(actor=principal(alice), token=scene["admins_token"])
    service_accounts.update_service_account(actor=principal(alice), account=scene["admins"], active=False)


# what one may see


def test_promise_32_what_one_may_not_see_looks_absent(scene):
    mine, theirs = scene["pipeline"], scene["admins"]
    bob, reader = principal(scene["bob"]), holding("service-accounts:read")
    assert list(service_accounts.visible(bob)) == [mine]
    assert list(service_accounts.visible(principal(scene["vera"]))) == []
    assert list(service_accounts.visible(holding("service-accounts:own"))) == []
    assert set(service_accounts.visible(reader)) == set(service_accounts.visible(principal(scene["alice"]))) == {mine, theirs}
    assert list(tokens.visible_tokens(bob)) == [scene["token"]]
    assert service_accounts.get_account(bob, mine.uid) == service_accounts.get_account(bob, "PIPELINE") == mine
    assert tokens.get_token(bob, scene["token"].key_id) == scene["token"]
    for look in (
        lambda: service_accounts.get_account(bob, theirs.uid),
        lambda: service_accounts.get_account(bob, theirs.name),
        lambda: service_accounts.get_account(bob, "nosuch"),
        lambda: tokens.get_token(bob, scene["admins_token"].key_id),
        lambda: tokens.get_token(bob, "nosuch"),
    ):
        with pytest.raises(NotFound, match="There is no"):
            look()


# changing


def test_an_account_changes_and_old_and_new_are_recorded(alice, pipeline):
    changed = service_accounts.update_service_account(
        actor=principal(alice), account=pipeline, role="viewer", active=False, description="x", unowned=True
    )
    assert (changed.role.name, changed.is_active, changed.description, changed.owner) == ("viewer", False, "x", None)
    assert last() == (
        "service-account.updated",
        "pipeline",
        {
            "old": {"role": "user", "active": True, "description": "", "owner": "bob@example.com"},
            "new": {"role": "viewer", "active": False, "description": "x", "owner": None},
        },
    )
    written = Entry.objects.count()
    service_accounts.update_service_account(actor=principal(alice), account=pipeline, role="viewer")
    assert Entry.objects.count() == written, "nothing changed, so nothing happened"


def test_an_account_goes_to_another_owner_within_what_they_hold(alice, vera, pipeline):
    with pytest.raises(Invalid, match=r"vera@example\.com has fewer permissions"):
        service_accounts.update_service_account(actor=principal(alice), account=pipeline, owner=vera)
    changed = service_accounts.update_service_account(actor=principal(alice), account=pipeline, owner=vera, role="viewer")
    assert (changed.owner, changed.role.name) == (vera, "viewer")


def test_an_account_of_a_bad_description_or_role_is_refused(alice, pipeline):
    for fields, field in (({"description": "x" * 201}, "description"), ({"role": "nosuch"}, "role"), ({"role": "admin"}, "role")):
        with pytest.raises(Invalid) as raised:
            service_accounts.update_service_account(actor=principal(alice), account=pipeline, **fields)
        assert field in raised.value.fields


def test_promise_13_deleting_an_account_ends_its_tokens(bob, pipeline, pipeline_token):
    assert works(pipeline_token)
    service_accounts.delete_service_account(actor=principal(bob), account=pipeline)
    assert not works(pipeline_token)
    assert last() == ("service-account.deleted", "pipeline", {"uid": pipeline.uid, "tokens": [pipeline_token[4:16]]})
    for call in (CALLS["update_service_account"], CALLS["delete_service_account"], CALLS["issue_token"]):
        with pytest.raises(NotFound):
            call(principal(bob), {"pipeline": pipeline})


# tokens


def test_promise_11_a_token_is_shown_by_what_issued_it_and_never_again(bob, pipeline):
    issued = tokens.issue_token(actor=principal(bob), account=pipeline, name="ci")
    assert works(issued.plaintext)
    assert issued.plaintext not in repr(issued)
    assert issued.token.digest == token_format.digest(issued.plaintext.encode())
    kept = f"{list(Token.objects.values())}{list(Entry.objects.values())}"
    assert issued.plaintext not in kept
    assert issued.plaintext[17:] not in kept
    event, target, data = last()
    assert (event, target) == ("token.issued", "pipeline")
    assert data == {"key_id": issued.token.key_id, "expires_at": issued.token.expires_at.isoformat(), "name": "ci"}


@pytest.mark.parametrize(
    ("days", "default", "longest", "expected"),
    [
        (None, 30, 0, 30),
        (None, 30, 7, 7),
        (None, 7, 30, 7),
        (1, 30, 0, 1),
        (0, 30, 0, None),
        (36_500, 30, 0, 36_500),
        (90, 30, 90, 90),
    ],
)
def test_promise_12_a_token_expires_in_30_days_unless_asked_otherwise(settings, days, default, longest, expected):
    settings.TOKEN_DEFAULT_DAYS, settings.TOKEN_MAX_DAYS = default, longest
    now = timezone.now()
    assert tokens.expiry(days, now) == (None if expected is None else now + timedelta(days=expected))


@pytest.mark.parametrize(("days", "longest"), [(-1, 0), (36_501, 0), (10**9, 0), (0, 90), (91, 90), (-1, 90)])
def test_promise_12_a_maximum_is_enforced(settings, bob, pipeline, days, longest):
    settings.TOKEN_MAX_DAYS = longest
    with pytest.raises(Invalid) as raised:
        tokens.issue_token(actor=principal(bob), account=pipeline, days=days)
    assert "days" in raised.value.fields
    assert not Token.objects.exists()


def test_promise_12_a_token_that_expired_is_refused(bob, pipeline, time_machine):
    time_machine.move_to("2026-11-24T12:00:00Z", tick=False)
    issued = tokens.issue_token(actor=principal(bob), account=pipeline, days=1)
    time_machine.move_to("2026-11-25T11:59:59Z", tick=False)
    assert works(issued.plaintext)
    time_machine.move_to("2026-11-25T12:00:00Z", tick=False)
    assert not works(issued.plaintext)


def test_a_token_with_a_long_name_is_refused(bob, pipeline):
    with pytest.raises(Invalid) as raised:
        tokens.issue_token(actor=principal(bob), account=pipeline, name="x" * 65)
    assert "name" in raised.value.fields


def test_tokens_can_be_switched_off_and_still_be_revoked(settings, bob, pipeline, pipeline_token):
    settings.ENABLE_SERVICE_ACCOUNTS = False
    token = Token.objects.get()
    for attempt in (
        lambda: tokens.issue_token(actor=principal(bob), account=pipeline),
        lambda: tokens.rotate_token(actor=principal(bob), token=token),
    ):
        with pytest.raises(Conflict, match="ENABLE_SERVICE_ACCOUNTS"):
            attempt()
    assert not works(pipeline_token)
    assert tokens.revoke_token(actor=principal(bob), token=token).revoked_at


def test_an_account_may_hold_several_tokens(bob, pipeline):
    issued = [tokens.issue_token(actor=principal(bob), account=pipeline) for _ in range(3)]
    tokens.revoke_token(actor=principal(bob), token=issued[1].token)
    assert [works(one.plaintext) for one in issued] == [True, False, True]


def test_a_revoked_token_dies_at_once_and_stays_as_it_is(bob, pipeline, pipeline_token):
    token = tokens.revoke_token(actor=principal(bob), token=Token.objects.get())
    assert not works(pipeline_token)
    assert last() == ("token.revoked", "pipeline", {"key_id": token.key_id})
    written = Entry.objects.count()
    again = tokens.revoke_token(actor=principal(bob), token=token)
    assert again.revoked_at == token.revoked_at
    assert Entry.objects.count() == written


def test_a_rotated_token_dies_at_once(bob, pipeline):
    old = tokens.issue_token(actor=principal(bob), account=pipeline, name="ci", days=7)
    new = tokens.rotate_token(actor=principal(bob), token=old.token)
    assert (works(old.plaintext), works(new.plaintext)) == (False, True)
    assert (new.token.name, new.token.account) == ("ci", pipeline)
    old.token.refresh_from_db()
    assert old.token.replaced_by == new.token
    event, _, data = last()
    assert event == "token.rotated"
    assert (data["old"], data["new"], data["grace"]) == (old.token.key_id, new.token.key_id, 0)


def test_a_rotated_token_is_accepted_until_its_grace_period_ends(bob, pipeline, time_machine):
    time_machine.move_to("2026-11-24T12:00:00Z", tick=False)
    old = tokens.issue_token(actor=principal(bob), account=pipeline, days=0)
    new = tokens.rotate_token(actor=principal(bob), token=old.token, grace=60)
    time_machine.move_to("2026-11-24T12:00:59Z", tick=False)
    assert (works(old.plaintext), works(new.plaintext)) == (True, True)
    time_machine.move_to("2026-11-24T12:01:00Z", tick=False)
    assert (works(old.plaintext), works(new.plaintext)) == (False, True)
    assert new.token.expires_at is None, "never stays never"


def test_a_grace_period_never_extends_the_validity_of_a_token(bob, pipeline, time_machine):
    time_machine.move_to("2026-11-24T12:00:00Z", tick=False)
    old = tokens.issue_token(actor=principal(bob), account=pipeline, days=1)
    tokens.rotate_token(actor=principal(bob), token=old.token, grace=30 * 86_400)
    old.token.refresh_from_db()
    assert old.token.expires_at == timezone.now() + timedelta(days=1)
    tokens.revoke_token(actor=principal(bob), token=old.token)
    assert not works(old.plaintext), "an overlap can be cut short"


@pytest.mark.parametrize(
    ("old_days", "days", "longest", "expected"),
    [
        (7, None, 0, 7),
        (7, 3, 0, 3),
        (7, 0, 0, None),
        (None, None, 0, None),
        (400, None, 90, 90),
        (7, None, 90, 7),
        (400, 30, 90, 30),
    ],
)
def test_promise_12_a_successor_lives_as_long_as_the_old_one_was_made_for_within_todays_limit(
    settings, bob, pipeline, time_machine, old_days, days, longest, expected
):
    time_machine.move_to("2026-11-01T12:00:00Z", tick=False)
    now = timezone.now()
    expires = None if old_days is None else now + timedelta(days=old_days)
    token = make_token(pipeline, days=None, created_at=now, expires_at=expires)[0]
    time_machine.move_to("2026-11-03T12:00:00Z", tick=False)
    settings.TOKEN_MAX_DAYS = longest
    new = tokens.rotate_token(actor=principal(bob), token=token, days=days).token
    assert new.expires_at == (None if expected is None else timezone.now() + timedelta(days=expected))


def test_promise_12_a_token_that_never_expires_has_no_such_successor_where_a_maximum_is_set(settings, bob, pipeline):
    token = make_token(pipeline, days=None)[0]
    settings.TOKEN_MAX_DAYS = 90
    with pytest.raises(Invalid, match="at most 90 days"):
        tokens.rotate_token(actor=principal(bob), token=token)
    assert Token.objects.count() == 1


@pytest.mark.parametrize("grace", [-1, 30 * 86_400 + 1])
def test_an_odd_overlap_is_refused(bob, pipeline, grace):
    token = make_token(pipeline)[0]
    with pytest.raises(Invalid) as raised:
        tokens.rotate_token(actor=principal(bob), token=token, grace=grace)
    assert "grace" in raised.value.fields


@pytest.mark.parametrize("grace", [0, 60])
def test_promise_45_a_token_that_was_revoked_or_rotated_has_no_further_successor(bob, pipeline, grace):
    revoked, rotated = make_token(pipeline)[0], make_token(pipeline)[0]
    tokens.revoke_token(actor=principal(bob), token=revoked)
    tokens.rotate_token(actor=principal(bob), token=rotated, grace=grace)
    count = Token.objects.count()
    for token in (revoked, rotated):
        with pytest.raises(Conflict, match="already revoked or rotated"):
            tokens.rotate_token(actor=principal(bob), token=token)
    assert Token.objects.count() == count


def test_an_expired_token_has_a_successor_as_the_sky_cli_expects(bob, pipeline):
    token, plaintext = make_token(pipeline, days=-1)
    assert not works(plaintext)
    new = tokens.rotate_token(actor=principal(bob), token=token, days=30)
    assert works(new.plaintext)
    assert not works(plaintext)


def test_a_token_that_went_meanwhile_is_not_found(bob, pipeline):
    token = make_token(pipeline)[0]
    Token.objects.all().delete()
    for call in (tokens.rotate_token, tokens.revoke_token):
        with pytest.raises(NotFound):
            call(actor=principal(bob, Method.BEARER), token=token)


def test_promise_30_an_account_does_not_manage_a_stronger_one_of_its_owner(alice):
    low = ServiceAccountFactory(name="low", owner=alice)
    high = ServiceAccountFactory(name="high", owner=alice, role=Role.objects.get(name="admin"))
    actor = identify(Bearer(make_token(low)[1].encode()), client="")
    for act in (
        lambda: service_accounts.delete_service_account(actor=actor, account=high),
        lambda: service_accounts.update_service_account(actor=actor, account=high, active=False),
        lambda: tokens.revoke_token(actor=actor, token=make_token(high)[0]),
    ):
        with pytest.raises(Forbidden):
            act()
    assert tokens.revoke_token(actor=actor, token=make_token(low)[0]).revoked_at


def test_promise_30_a_new_owner_does_not_restore_what_the_old_one_cut(alice, bob, system):
    account = ServiceAccountFactory(name="cut", owner=bob, role=Role.objects.get(name="admin"))
    with pytest.raises(Invalid, match="Choose its role"):
        service_accounts.update_service_account(actor=system, account=account, owner=alice)
    assert service_accounts.update_service_account(actor=system, account=account, owner=alice, role="user").owner == alice


@pytest.mark.parametrize(
    "give",
    [
        lambda actor, account, owner: service_accounts.create_service_account(
            actor=actor, name="new", role="viewer", owner=owner
        ),
        lambda actor, account, owner: service_accounts.update_service_account(
            actor=actor, account=account, owner=owner, role="viewer"
        ),
    ],
    ids=["create", "update"],
)
def test_a_disabled_user_is_given_no_service_account(alice, pipeline, vera, system, give):
    users.set_active(actor=system, user=vera, active=False)
    stale = User.objects.select_related("role").get(pk=vera.pk)
    stale.is_active = True  # as a caller has it that loaded the row before
    with pytest.raises(Invalid, match="is disabled"):
        give(principal(alice), pipeline, stale)
    assert not ServiceAccount.objects.filter(owner=vera).exists()


def test_an_account_of_a_disabled_owner_can_still_be_changed(alice, bob, pipeline, system):
    users.set_active(actor=system, user=bob, active=False)
    changed = service_accounts.update_service_account(
        actor=principal(alice), account=pipeline, owner=User.objects.get(pk=bob.pk), role="viewer", description="kept"
    )
    assert (changed.owner, changed.description) == (bob, "kept")
