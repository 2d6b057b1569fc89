"""Changes that are prepared without the lock see what others change before they have it. Each thread has its own connection."""

from collections.abc import Callable

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import PolicyRevision, ServiceAccount, Token, User
from accounts.services import offboarding, service_accounts
from accounts.services.offboarding import AccountAction
from accounts.services.prepared import Dependencies, prepare_first
from core.errors import Conflict
from ops.apply import manifest, reconcile
from rbac import services
from rbac.models import Role
from rbac.principals import Principal
from tests.factories import ServiceAccountFactory, UserFactory, make_token
from tests.races import at_once

pytestmark = pytest.mark.usefixtures("separate_connections")


def elsewhere(change: Callable[[], object]) -> None:
    """Make a change in another thread, and fail if it is kept waiting for a lock or fails."""
    [result] = at_once(change)
    assert not isinstance(result, Exception), result


def prepared(change: Callable[[], object]) -> int:
    """Return how often a change was prepared, if another one is made while it is prepared for the first time."""
    times = []

    def prepare() -> tuple[int, Dependencies]:
        token = Token.objects.select_related("account__owner").get(name="ours")
        depends = Dependencies(free_names={"robot"}, owners={token.account.owner_id}, accounts={token.account_id})
        depends.add(token, token.account)
        times.append(connection.in_atomic_block)
        if len(times) == 1:
            elsewhere(change)
        return len(times), depends

    return prepare_first(prepare, lambda number: number)


@pytest.fixture
def rows() -> list[Token]:
    """Two tokens, each of an account with an owner: a change depends on the first one only."""
    return [
        make_token(ServiceAccountFactory(name=name, owner=UserFactory(username=name)), name=name)[0] for name in ("ours", "other")
    ]


def many_changes() -> None:
    """Make more changes than the log of the policy revision has."""
    for number in range(1_100):
        User.objects.filter(username="other").update(is_active=number % 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda: Role.objects.filter(name="viewer").update(permissions=[]),
        lambda: User.objects.filter(username="ours").update(is_active=False),
        lambda: ServiceAccount.objects.filter(name="ours").update(is_active=False),
        lambda: ServiceAccount.objects.filter(name="ours").update(owner=None),
        lambda: Token.objects.filter(name="ours").update(revoked_at=timezone.now()),
        lambda: UserFactory(username="robot"),
        lambda: ServiceAccountFactory(name="robot"),
        lambda: ServiceAccountFactory(owner=User.objects.get(username="ours")),
        lambda: ServiceAccount.objects.filter(name="other").update(owner=User.objects.get(username="ours")),
        lambda: make_token(ServiceAccount.objects.get(name="ours")),
        many_changes,
        lambda: PolicyRevision.objects.update(value="f" * 32),
        lambda: PolicyRevision.objects.all().delete(),
    ],
)
def test_a_change_in_between_is_seen(rows: list[Token], change: Callable[[], object]) -> None:
    assert prepared(change) > 1


@pytest.mark.parametrize(
    "change",
    [
        lambda: User.objects.filter(username="other").update(is_active=False),
        lambda: Token.objects.filter(name="other").update(revoked_at=timezone.now()),
        lambda: Token.objects.filter(name="other").delete(),
        lambda: Token.objects.update(last_used_at=timezone.now()),
        UserFactory,
        ServiceAccountFactory,
        lambda: make_token(ServiceAccount.objects.get(name="other")),
    ],
)
def test_a_change_of_something_else_in_between_does_not_matter(rows: list[Token], change: Callable[[], object]) -> None:
    assert prepared(change) == 1


def test_what_is_changed_all_the_time_is_prepared_under_the_lock_at_last() -> None:
    locked = []

    def prepare() -> tuple[None, Dependencies]:
        locked.append(connection.in_atomic_block)
        name = f"robot{len(locked)}"
        if not locked[-1]:
            elsewhere(lambda: UserFactory(username=name))
        return None, Dependencies(free_names={name})

    prepare_first(prepare, lambda _: None)
    assert locked == [False, False, False, True]


def test_promise_33_the_last_admin_is_not_deleted_while_another_admin_leaves(
    monkeypatch: pytest.MonkeyPatch, system: Principal
) -> None:
    admin = Role.objects.get(name="admin")
    leaver, other = UserFactory(role=admin), UserFactory(role=admin)
    decide = offboarding._prepare_deletion
    others = [other]

    def late(*args: object) -> object:
        decision = decide(*args)
        if others:
            user = others.pop()
            elsewhere(lambda: offboarding.disable_user(actor=system, user=user))
        return decision

    monkeypatch.setattr(offboarding, "_prepare_deletion", late)
    with pytest.raises(Conflict, match="last active admin"):
        offboarding.delete_user(actor=system, user=leaver)
    assert User.objects.filter(pk=leaver.pk).exists()


def test_promise_44_a_token_that_is_issued_while_its_owner_leaves_is_revoked_too(
    monkeypatch: pytest.MonkeyPatch, system: Principal
) -> None:
    leaver = UserFactory()
    account = ServiceAccountFactory(owner=leaver)
    revoke, issued = offboarding._revoke, []

    def late(*args: object) -> None:
        revoke(*args)
        if not issued:
            issued.append(account)
            elsewhere(lambda: make_token(account))

    monkeypatch.setattr(offboarding, "_revoke", late)
    offboarding.disable_user(actor=system, user=leaver, account_action=AccountAction.REVOKE)
    assert issued
    assert not Token.objects.filter(revoked_at=None).exists()


def test_an_account_that_a_user_gets_while_being_deleted_does_not_lose_the_limit_of_its_owner(
    monkeypatch: pytest.MonkeyPatch, system: Principal
) -> None:
    viewer = Role.objects.get(name="viewer")
    leaver, other = UserFactory(role=viewer), UserFactory(role=viewer)
    account = ServiceAccountFactory(name="robot", role=Role.objects.get(name="admin"), owner=other)
    decide, moved = offboarding._prepare_deletion, []

    def late(*args: object) -> object:
        decision = decide(*args)
        if not moved:
            moved.append(account)
            elsewhere(lambda: service_accounts.update_service_account(actor=system, account=account, role="viewer", owner=leaver))
            elsewhere(lambda: ServiceAccount.objects.filter(pk=account.pk).update(role=account.role))  # its owner was demoted
        return decision

    monkeypatch.setattr(offboarding, "_prepare_deletion", late)
    offboarding.delete_user(actor=system, user=leaver)
    account.refresh_from_db()
    assert (moved, account.owner, account.role.name) == ([account], None, "viewer")


def test_a_manifest_gives_no_role_that_its_owner_has_lost_in_between(monkeypatch: pytest.MonkeyPatch, system: Principal) -> None:
    owner = UserFactory()
    text = f"service_accounts:\n  - {{name: robot, role: user, owner: {owner.username}}}\n"
    plan, planned = reconcile.AccountSection.plan, []

    def late(section: object, **options: bool) -> object:
        result = plan(section, **options)
        if not planned:
            planned.append(section)
            elsewhere(lambda: User.objects.filter(pk=owner.pk).update(role=Role.objects.get(name="viewer")))
        return result

    monkeypatch.setattr(reconcile.AccountSection, "plan", late)
    with pytest.raises(Exception, match="has fewer permissions than the role user"):
        reconcile.apply(actor=system, manifest=manifest.read(text))
    assert not ServiceAccount.objects.exists()


def test_a_manifest_decides_about_accounts_with_the_roles_that_it_changes(system: Principal) -> None:
    text = """
roles: [{name: small, permissions: [upstream:read]}]
service_accounts: [{name: robot, role: small}]
"""
    reconcile.apply(actor=system, manifest=manifest.read(text))
    assert ServiceAccount.objects.get().role == services.get_role("small")
