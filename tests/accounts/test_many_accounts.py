"""Changes of many service accounts hold the lock for a few statements, however many accounts there are."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import ServiceAccount, Token, User
from accounts.services import offboarding, service_accounts, tokens
from accounts.services.account_batch import AccountBatch
from accounts.services.account_rules import AccountChange
from accounts.services.offboarding import AccountAction
from audit.models import Entry
from core.errors import Forbidden, Invalid, NotFound
from ops.apply import manifest, reconcile
from rbac.models import Role
from rbac.principals import Principal
from tests.factories import ServiceAccountFactory, UserFactory, make_token, principal

pytestmark = pytest.mark.django_db
FEW, MANY = 3, 40


def crowd(number: int) -> tuple[User, User]:
    """Return a user with so many service accounts, each with two tokens, and another user."""
    owner = UserFactory()
    for _ in range(number):
        account = ServiceAccountFactory(owner=owner)
        make_token(account)
        make_token(account)
    return owner, UserFactory()


def apply(actor: Principal, text: str, *, prune: bool = False) -> None:
    reconcile.apply(actor=actor, manifest=manifest.read(text), prune=prune)


def listed(owner: User, role: str) -> str:
    names = ServiceAccount.objects.filter(owner=owner).values_list("name", flat=True)
    return "service_accounts:\n" + "".join(f"  - {{name: {name}, role: {role}}}\n" for name in names)


CHANGES: dict[str, Callable[[Principal, User, User], Any]] = {
    "disable and revoke": lambda actor, owner, _: offboarding.disable_user(
        actor=actor, user=owner, account_action=AccountAction.REVOKE
    ),
    "disable and transfer": lambda actor, owner, heir: offboarding.disable_user(
        actor=actor, user=owner, account_action=AccountAction.TRANSFER, transfer_to=heir
    ),
    "delete": lambda actor, owner, _: offboarding.delete_user(actor=actor, user=owner),
    "delete and revoke": lambda actor, owner, _: offboarding.delete_user(
        actor=actor, user=owner, account_action=AccountAction.REVOKE
    ),
    "delete and transfer": lambda actor, owner, heir: offboarding.delete_user(actor=actor, user=owner, transfer_to=heir),
    "revoke tokens": lambda actor, owner, _: tokens.revoke_tokens(
        actor=actor, tokens=list(Token.objects.filter(account__owner=owner))
    ),
    "apply a role": lambda actor, owner, _: apply(actor, listed(owner, "viewer")),
    "apply nothing": lambda actor, owner, _: apply(actor, listed(owner, "user")),
    "prune": lambda actor, _owner, _heir: apply(actor, "service_accounts: []", prune=True),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_number_of_queries_does_not_grow_with_the_number_of_accounts(
    system: Principal, change: Callable[[Principal, User, User], Any]
) -> None:
    numbers = []
    for number in (FEW, MANY):
        owner, heir = crowd(number)
        with CaptureQueriesContext(connection) as queries:
            change(system, owner, heir)
        numbers.append(len(queries))
    assert numbers[0] == numbers[1]


def test_creating_accounts_by_a_manifest_takes_as_many_queries_for_many_as_for_few(system: Principal, bob: User) -> None:
    numbers = []
    for number in (FEW, MANY):
        text = "".join(f"  - {{name: new-{number}-{n}, owner: {bob.username}}}\n" for n in range(number))
        with CaptureQueriesContext(connection) as queries:
            apply(system, f"service_accounts:\n{text}")
        numbers.append(len(queries))
    assert numbers[0] == numbers[1]
    assert ServiceAccount.objects.filter(owner=bob, role__name="user").count() == FEW + MANY
    assert Entry.objects.filter(event="service-account.created").count() == FEW + MANY


def test_each_account_and_token_of_a_user_who_leaves_has_its_audit_entry(system: Principal) -> None:
    owner, _heir = crowd(FEW)
    accounts = list(ServiceAccount.objects.filter(owner=owner))
    make_token(accounts[0], revoked_at=accounts[0].created_at)
    offboarding.delete_user(actor=system, user=owner, account_action=AccountAction.REVOKE)
    assert not Token.objects.filter(revoked_at=None).exists()
    assert not ServiceAccount.objects.filter(is_active=True).exists()
    assert Entry.objects.filter(event="token.revoked").count() == 2 * FEW, "one was revoked before"
    for account in accounts:
        entries = Entry.objects.filter(event="service-account.updated", target=account.name).order_by("pk")
        old, new = ({"role": "user", "description": "", "active": active} for active in (True, False))
        assert [entry.data for entry in entries] == [
            {"old": {**old, "owner": owner.username}, "new": {**new, "owner": owner.username}},
            {"old": {**new, "owner": owner.username}, "new": {**new, "owner": None}},
        ]


def test_one_account_that_cannot_go_to_the_new_owner_keeps_all_where_they_are(system: Principal) -> None:
    owner, heir = crowd(FEW)
    odd = Role.objects.create(name="odd", permissions=["service-accounts:read"])
    User.objects.filter(pk=owner.pk).update(role=Role.objects.get(name="admin"))
    ServiceAccountFactory(owner=owner, role=odd)
    with pytest.raises(Invalid, match="Neither contains the other"):
        offboarding.disable_user(actor=system, user=owner, account_action=AccountAction.TRANSFER, transfer_to=heir)
    assert ServiceAccount.objects.filter(owner=owner).count() == FEW + 1
    assert not Entry.objects.exists()


def test_tokens_of_a_stranger_are_not_revoked_with_ones_own(bob: User, vera: User) -> None:
    own, other = (make_token(ServiceAccountFactory(owner=user))[0] for user in (bob, vera))
    with pytest.raises(NotFound):
        tokens.revoke_tokens(actor=principal(bob), tokens=[own, other])
    assert Token.objects.filter(revoked_at=None).count() == 2


def test_a_refused_change_of_a_batch_leaves_the_account_as_it_was(bob: User, pipeline: ServiceAccount) -> None:
    admin = Role.objects.get(name="admin")
    account = ServiceAccount.objects.select_related("role", "owner__role").get(pk=pipeline.pk)
    with pytest.raises(Forbidden):
        AccountBatch(principal(bob)).change(account, AccountChange(role=admin, description="x"))
    assert (account.role.name, account.description) == ("user", "")


def test_promise_13_an_account_is_deleted_with_all_its_tokens_and_their_successors(system: Principal) -> None:
    account, other = ServiceAccountFactory(), ServiceAccountFactory()
    kept, _ = make_token(other)
    old, _ = make_token(account)
    new = tokens.rotate_token(actor=system, token=old, grace=60).token
    service_accounts.delete_service_account(actor=system, account=account)
    assert list(Token.objects.all()) == [kept]
    [entry] = Entry.objects.filter(event="service-account.deleted")
    assert sorted(entry.data["tokens"]) == sorted([old.key_id, new.key_id])
