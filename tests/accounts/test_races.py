"""Check and act are one step: many at once, on connections of their own, on either database."""

import pytest
from axes.models import AccessAttempt
from django.db import connection, transaction

from accounts import selectors
from accounts.models import RoleSource, ServiceAccount, SignIn, Token, User
from accounts.services import offboarding, service_accounts, tokens, users
from audit.models import Entry
from authn import lockout, sso
from authn.credentials import Bearer, InvalidCredential
from authn.identify import identify
from core.errors import Conflict
from rbac import services as rbac
from rbac.models import Role, Route
from rbac.packs import RouteSpec
from rbac.principals import Principal
from tests.factories import ServiceAccountFactory, UserFactory, make_token, password_hash, principal
from tests.races import at_once
from tests.verify_client import CLIENT, judge, proxied

pytestmark = pytest.mark.usefixtures("separate_connections")
MANY = 6


def admin(name):
    return UserFactory(username=f"{name}@example.com", role=Role.objects.get(name="admin"))


def errors(results):
    return [result for result in results if isinstance(result, Exception)]


def test_promise_44_many_first_requests_of_one_user_make_one_row(settings):
    settings.RBAC_DEFAULT_ROLE = "user"
    results = at_once(*[lambda: sso.sign_in("carol@example.com", None)] * MANY)
    assert errors(results) == []
    assert {user.pk for user in results} == {User.objects.get().pk}
    assert Entry.objects.filter(event="user.created").count() == 1


def test_promise_34_of_many_first_users_exactly_one_becomes_admin(settings):
    settings.RBAC_DEFAULT_ROLE = "first-admin"
    results = at_once(*[lambda n=n: sso.sign_in(f"person{n}@example.com", None) for n in range(MANY)])
    assert errors(results) == []
    assert sorted(user.role for user in results) == ["admin"] + ["user"] * (MANY - 1)
    assert User.objects.filter(role__name="admin").count() == 1


def test_promise_34_also_through_the_gateway(settings):
    settings.RBAC_DEFAULT_ROLE, settings.AUTH_USER_HEADER_FORMAT = "first-admin", "plaintext"
    Route.objects.create(position=1, path="/**", methods=["*"], permission="upstream:read")
    answers = at_once(*[lambda n=n: judge([], proxied(subject=f"person{n}@example.com")).status for n in range(MANY)])
    assert answers == [200] * MANY
    assert User.objects.filter(role__name="admin").count() == 1


@pytest.mark.parametrize(
    "end",
    [
        lambda actor, user: users.set_role(actor=actor, user=user, role="user"),
        lambda actor, user: users.set_active(actor=actor, user=user, active=False),
        lambda actor, user: offboarding.delete_user(actor=actor, user=user),
        lambda actor, user: users.set_role(actor=actor, user=user, role="viewer", source=RoleSource.GROUP),
    ],
    ids=["demote", "disable", "delete", "demote by a group"],
)
def test_promise_33_two_admins_who_end_each_other_leave_one(end):
    one, other = admin("alice"), admin("anna")
    results = at_once(lambda: end(principal(one), other), lambda: end(principal(other), one))
    assert [type(error) for error in errors(results)] == [Conflict]
    assert users.active_admins() == 1


def test_promise_33_different_ends_at_once_leave_one_too():
    people = [admin(name) for name in ("alice", "anna", "ada")]
    actor = principal(people[0])
    results = at_once(
        lambda: users.set_role(actor=actor, user=people[0], role="user"),
        lambda: users.set_active(actor=actor, user=people[1], active=False),
        lambda: offboarding.delete_user(actor=actor, user=people[2]),
    )
    assert [type(error) for error in errors(results)] == [Conflict]
    assert users.active_admins() == 1


def test_promise_44_of_many_rotations_of_one_token_one_wins():
    bob = UserFactory()
    token, plaintext = make_token(ServiceAccountFactory(owner=bob))
    results = at_once(*[lambda: tokens.rotate_token(actor=principal(bob), token=token)] * MANY)
    assert [type(error) for error in errors(results)] == [Conflict] * (MANY - 1)
    assert Token.objects.count() == 2
    won = next(result for result in results if not isinstance(result, Exception))
    assert Token.objects.get(pk=token.pk).replaced_by_id == won.token.pk
    assert Entry.objects.filter(event="token.rotated").count() == 1
    with pytest.raises(InvalidCredential):
        identify(Bearer(plaintext.encode()), client=CLIENT)


def test_promise_44_rotating_and_revoking_at_once_leave_the_old_token_dead():
    bob = UserFactory()
    token, plaintext = make_token(ServiceAccountFactory(owner=bob))
    results = at_once(
        lambda: tokens.rotate_token(actor=principal(bob), token=token, grace=600),
        lambda: tokens.revoke_token(actor=principal(bob), token=token),
    )
    assert all(isinstance(error, Conflict) for error in errors(results))
    with pytest.raises(InvalidCredential):
        identify(Bearer(plaintext.encode()), client=CLIENT)


def test_promise_14_a_token_that_is_used_while_it_is_revoked_stays_revoked():
    bob = UserFactory()
    token, plaintext = make_token(ServiceAccountFactory(owner=bob))
    uses = [lambda: identify(Bearer(plaintext.encode()), client=CLIENT)] * (MANY - 1)
    results = at_once(lambda: tokens.revoke_token(actor=principal(bob), token=token), *uses)
    assert not isinstance(results[0], Exception)
    assert all(isinstance(result, Principal | InvalidCredential) for result in results[1:])
    assert Token.objects.get().revoked_at is not None, "noting the use takes nothing back"
    with pytest.raises(InvalidCredential):
        identify(Bearer(plaintext.encode()), client=CLIENT)


def test_a_tokens_first_uses_at_once_are_noted_and_none_fails():
    plaintext = make_token(ServiceAccountFactory())[1]
    results = at_once(*[lambda: identify(Bearer(plaintext.encode()), client=CLIENT)] * MANY)
    assert errors(results) == []
    assert Token.objects.get().last_used_at is not None


def test_promise_44_of_many_creations_of_one_name_one_wins(settings):
    actor = principal(admin("alice"))
    results = at_once(
        *[lambda: users.create_user(actor=actor, username="carol@example.com", sign_in=SignIn.SSO)] * 3,
    )
    assert [type(error) for error in errors(results)] == [Conflict] * 2
    assert User.objects.filter(username="carol@example.com").count() == 1


def test_promise_44_a_user_and_a_service_account_never_get_the_same_name_at_once():
    actor = principal(admin("alice"))
    hashed = users.HashedPassword(password_hash())
    results = at_once(
        lambda: users.create_user(actor=actor, username="robot", password=hashed),
        lambda: service_accounts.create_service_account(actor=actor, name="robot"),
    )
    assert [type(error) for error in errors(results)] == [Conflict]
    assert User.objects.filter(username="robot").count() + ServiceAccount.objects.filter(name="robot").count() == 1


def test_promise_44_a_role_is_not_deleted_while_it_is_given():
    actor = principal(admin("alice"))
    bob = UserFactory()
    rbac.create_role(actor=actor, name="spare", permissions=["upstream:read"])
    at_once(
        lambda: rbac.delete_role(actor=actor, name="spare"),
        lambda: users.set_role(actor=actor, user=bob, role="spare"),
    )
    bob.refresh_from_db()
    assert Role.objects.filter(name="spare").exists() is (bob.role.name == "spare")


def test_promise_44_routes_that_are_inserted_at_once_all_get_a_place_of_their_own():
    actor = principal(admin("alice"))
    specs = [RouteSpec(f"/r{n}", ("GET",), "upstream:read") for n in range(MANY)]
    results = at_once(*[lambda spec=spec: rbac.create_route(actor=actor, spec=spec, position=1) for spec in specs])
    assert errors(results) == []
    assert list(Route.objects.values_list("position", flat=True)) == list(range(1, MANY + 1))


def test_promise_22_no_failure_is_lost_when_many_come_at_once():
    results = at_once(*[lambda: lockout.count_failure("bob@example.com", CLIENT)] * 4)
    assert errors(results) == []
    assert sum(row.failures_since_start for row in AccessAttempt.objects.all()) == 4


@pytest.mark.postgres
def test_promise_14_a_reader_never_waits_for_a_writer():
    # SQLite's WAL gives readers the same; its writers hold the whole file, which this test would time.
    plaintext = make_token(ServiceAccountFactory(), last_used_at=None)[1]
    with transaction.atomic():
        rbac.lock_policy()
        (record,) = at_once(lambda: selectors.token_by_key(plaintext[4:16]))
    assert record.state == "active"


def test_a_locked_database_lets_a_token_in_all_the_same(settings):
    plaintext = make_token(ServiceAccountFactory())[1]
    Route.objects.create(position=1, path="/**", methods=["*"], permission="upstream:read")
    lines = [(b"authorization", b"Bearer " + plaintext.encode())]
    options = connection.settings_dict["OPTIONS"]
    before = dict(options)
    if connection.vendor == "sqlite":
        options["timeout"] = 0.05  # how long the note of the use may wait
    else:
        options["options"] = "-c lock_timeout=50ms"
    try:
        with transaction.atomic():
            Token.objects.select_for_update().get()
            Token.objects.update(name="changing")  # holds the row, and on SQLite the whole file
            (answer,) = at_once(lambda: judge(lines, proxied()))
    finally:
        options.clear()
        options.update(before)
    assert answer.status == 200
    assert Token.objects.get().last_used_at is None, "the note was given up, the request was not"
