"""When a user leaves: disable or delete the user, and decide in the same step about the service accounts that they own."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, cast

from accounts.models import ServiceAccount, Session, Token, User
from accounts.services import deleted_users, service_accounts, upstream, users
from accounts.services.account_batch import AccountBatch
from accounts.services.account_rules import AccountChange
from accounts.services.prepared import Dependencies, prepare_first
from audit.events import Event
from audit.record import record
from core.agreement import asks_first
from core.errors import Invalid
from rbac.models import Role
from rbac.permissions import Permission, cap_to_owner
from rbac.principals import Principal
from rbac.services import require, require_all

MAX_LISTED: Final = 50


class AccountAction(StrEnum):
    """What happens to the service accounts of a user who leaves.

    STAY: those of a disabled user are refused until the user is enabled again; those of a deleted user have no owner.
    """

    STAY = "stay"
    TRANSFER = "transfer"
    REVOKE = "revoke"


@dataclass(frozen=True, slots=True)
class Affected:
    """The service accounts of a user and their active tokens, the first MAX_LISTED of each, and how many there are in all."""

    accounts: tuple[ServiceAccount, ...]
    accounts_count: int
    tokens: tuple[Token, ...]
    tokens_count: int
    sessions: int


def affected(user: User) -> Affected:
    """Return what disabling or deleting this user would affect."""
    accounts = ServiceAccount.objects.filter(owner=user).select_related("role")
    active = Token.objects.filter(account__owner=user).select_related("account").active()
    return Affected(
        tuple(accounts[:MAX_LISTED]),
        accounts.count(),
        tuple(active.order_by("account__name", "pk")[:MAX_LISTED]),
        active.count(),
        Session.objects.filter(user=user).live().count(),
    )


@asks_first
def disable_user(
    *, actor: Principal, user: User, account_action: AccountAction = AccountAction.STAY, transfer_to: User | None = None
) -> User:
    """Disable a user, after the `account_action` on their service accounts, and return the user.

    Raises Forbidden, Invalid, Conflict, NotFound; then nothing has changed.
    """

    def prepare() -> tuple[AccountBatch, Dependencies]:
        heir = _new_owner(user, transfer_to) if account_action is AccountAction.TRANSFER else None
        accounts, batch = _accounts_of(user), AccountBatch(actor)
        if heir is not None:
            for account in accounts:
                owner = cast(User, account.owner)
                batch.change(account, AccountChange(role=_role_within(account, owner, heir), owner=heir))
        elif account_action is AccountAction.REVOKE:
            _revoke(batch, user, accounts)
        _depend_on_users(batch, user, heir)
        return batch.prepare(), batch.dependencies

    def write(batch: AccountBatch) -> User:  # under the lock, so that the user gets no account in between
        batch.write()
        return users.set_active(actor=actor, user=user, active=False)

    return prepare_first(prepare, write)


@asks_first
def delete_user(
    *,
    actor: Principal,
    user: User,
    account_action: AccountAction | None = None,
    transfer_to: User | None = None,
    block: bool | None = None,
) -> None:
    """Delete a user, after the `account_action` on their service accounts: without one, TRANSFER where `transfer_to` is given.

    An account that stays or is transferred keeps no more permissions than it had under its owner: it gets the owner's role if
    that had less, and is disabled if the owner was, or if no role describes its permissions. Each changed account is recorded.

    With `block`, single sign-on cannot create the user again; None blocks the name of a disabled user (`deleted_users`).
    Raises Forbidden, Invalid, Conflict, NotFound; then nothing has changed.
    """
    require(actor, Permission.USERS_WRITE)
    if account_action is None:
        account_action = AccountAction.STAY if transfer_to is None else AccountAction.TRANSFER

    def prepare() -> tuple[_Deletion, Dependencies]:
        deletion = _prepare_deletion(actor, users.get_user(user.uid), account_action, transfer_to)
        return deletion, deletion.batch.dependencies

    def write(deletion: _Deletion) -> None:
        stored = users.get_user(user.uid)
        users.require_other_admin(stored)
        upstream.require_deletion(actor, stored)
        deletion.batch.write()
        blocked = deleted_users.keep(actor=actor, user=stored, block=block)
        stored.delete()
        data = {**deletion.data, **({"blocked": True} if blocked else {})}
        record(Event.USER_DELETED, actor=actor, target=stored.username, data=data)

    prepare_first(prepare, write)


@dataclass(frozen=True, slots=True)
class _Deletion:
    """What is prepared for the deletion of a user: the changes of accounts, and the data of the audit entry."""

    batch: AccountBatch
    data: dict[str, Any]


def _prepare_deletion(actor: Principal, user: User, account_action: AccountAction, transfer_to: User | None) -> _Deletion:
    users.require_change(actor, user, "delete")
    users.require_other_admin(user)
    heir = _new_owner(user, transfer_to) if account_action is AccountAction.TRANSFER else None
    accounts, batch = _accounts_of(user), AccountBatch(actor)
    if account_action is AccountAction.REVOKE:
        _revoke(batch, user, accounts)
    for account in accounts:
        _detach(batch, account, user, heir)
    _depend_on_users(batch, user, heir)
    data: dict[str, Any] = {
        "uid": user.uid,
        "role": user.role.name,
        "service_accounts": [account.name for account in accounts],
    }
    if heir is not None:
        require_all(actor, heir.role.holds, f"give service accounts to {heir.username}")
        data["transferred_to"] = heir.username
    return _Deletion(batch.prepare(), data)


def _new_owner(user: User, transfer_to: User | None) -> User:
    """Return the user who gets the service accounts, as stored now. Raises Invalid, NotFound."""
    if transfer_to is None:
        raise Invalid.field("transfer_to", "Name the user who gets the service accounts.")
    if transfer_to.pk == user.pk:
        raise Invalid.field("transfer_to", f"{user.username} is the user who leaves. Name another user.")
    return service_accounts.new_owner(transfer_to, field="transfer_to")


def _depend_on_users(batch: AccountBatch, user: User, heir: User | None) -> None:
    """Depend on both users, and on the user getting no other account."""
    batch.dependencies.add(user, heir)
    batch.dependencies.owners.add(user.pk)


def _accounts_of(user: User) -> list[ServiceAccount]:
    return list(ServiceAccount.objects.filter(owner=user).select_related("role", "owner__role"))


def _detach(batch: AccountBatch, account: ServiceAccount, owner: User, heir: User | None) -> None:
    """Take an account from an owner who is deleted, and give it to the heir if there is one."""
    before = copy(account)
    role, _ = cap_to_owner(account.role.name, account.role.holds, owner.role.name, owner.role.holds)
    account.owner = heir
    account.role = account.role if role in ("", account.role.name) else owner.role
    account.is_active = account.is_active and owner.is_active and role != ""
    batch.replace(account, before)


def _role_within(account: ServiceAccount, *owners: User) -> Role:
    """Return the role of an account that stays within the roles of all these owners (ADR 0004).

    Raises Invalid if an owner's role and the account's contain each other in neither direction.
    """
    role = account.role
    for owner in owners:
        name, _ = cap_to_owner(role.name, role.holds, owner.role.name, owner.role.holds)
        if not name:
            raise Invalid.field(
                "transfer_to",
                f"{account.name} has the role {role.name} and {owner.username} the role {owner.role.name}. "
                "Neither contains the other. Give the service account another role first.",
            )
        role = role if name == role.name else owner.role
    return role


def _revoke(batch: AccountBatch, user: User, accounts: Sequence[ServiceAccount]) -> None:
    """Revoke all tokens of the user's accounts and disable the accounts. They stay, so that their history can be read."""
    by_key = {account.pk: account for account in accounts}
    tokens = list(Token.objects.filter(account__owner=user, revoked_at=None))
    for token in tokens:
        token.account = by_key[token.account_id]
    batch.revoke_tokens(tokens)
    batch.dependencies.accounts.update(by_key)
    for account in accounts:
        batch.change(account, AccountChange(active=False))
