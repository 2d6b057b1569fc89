"""When a person leaves: what goes with them, and what becomes of their service accounts, decided and done in one step."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from django.db import transaction
from django.utils import timezone

from accounts.models import ServiceAccount, Session, Token, User
from accounts.services import service_accounts, tokens, users
from core.errors import Invalid
from rbac.permissions import cap_to_owner
from rbac.principals import Principal
from rbac.services import lock_policy

SHOWN: Final = 50


class Fate(StrEnum):
    """What becomes of a person's service accounts."""

    STAY = "stay"  # with a disabled person: they stop, and go on when the person is enabled; of a deleted one: without an owner
    TRANSFER = "transfer"
    REVOKE = "revoke"


@dataclass(frozen=True, slots=True)
class Belongings:
    """What is a person's: their service accounts and those tokens of theirs that work, the first SHOWN, and how many in all."""

    accounts: tuple[ServiceAccount, ...]
    accounts_count: int
    tokens: tuple[Token, ...]
    tokens_count: int
    sessions: int


def belongings(user: User) -> Belongings:
    """Return what would be concerned if this person left."""
    now = timezone.now()
    accounts = ServiceAccount.objects.filter(owner=user).select_related("role")
    tokens = Token.objects.filter(account__owner=user).select_related("account").active()
    return Belongings(
        tuple(accounts[:SHOWN]),
        accounts.count(),
        tuple(tokens.order_by("account__name", "pk")[:SHOWN]),
        tokens.count(),
        Session.objects.filter(user=user, expire_date__gt=now).count(),
    )


@transaction.atomic
def disable(*, actor: Principal, user: User, fate: Fate, transfer_to: User | None = None) -> User:
    """Disable a person and return them; first what is to become of their service accounts.

    Raises Forbidden, Invalid, Conflict, NotFound; then nothing has been done.
    """
    lock_policy()  # so that no account becomes theirs between here and the end
    heir = _heir(user, fate, transfer_to)
    for account in list(ServiceAccount.objects.filter(owner=user).select_related("role")):
        if heir is not None:
            role = _kept(account, user, heir)
            service_accounts.update_service_account(actor=actor, account=account, owner=heir, role=role)
        elif fate is Fate.REVOKE:
            _revoke(actor, account)
    return users.set_active(actor=actor, user=user, active=False)


@transaction.atomic
def delete(*, actor: Principal, user: User, fate: Fate, transfer_to: User | None = None) -> None:
    """Delete a person; first what is to become of their service accounts. Raises as `disable` does."""
    lock_policy()
    heir = _heir(user, fate, transfer_to)
    if fate is Fate.REVOKE:
        for account in list(ServiceAccount.objects.filter(owner=user)):
            _revoke(actor, account)
    users.delete_user(actor=actor, user=user, transfer_to=heir)


def _heir(user: User, fate: Fate, transfer_to: User | None) -> User | None:
    if fate is not Fate.TRANSFER:
        return None
    if transfer_to is None:
        raise Invalid.field("transfer_to", "Say to whom.")
    if transfer_to.pk == user.pk:
        raise Invalid.field("transfer_to", "Service accounts cannot go to the user who leaves.")
    if not transfer_to.is_active:
        raise Invalid.field("transfer_to", f"{transfer_to.username} is disabled, and with them their service accounts.")
    return transfer_to


def _kept(account: ServiceAccount, *owners: User) -> str:
    """Return the role of an account that has to be within each of these owners' (ADR 0004), the old one's and the new one's.

    Raises Invalid where no role says what is left.
    """
    role = account.role
    for owner in owners:
        name, _ = cap_to_owner(role.name, role.holds, owner.role.name, owner.role.holds)
        if not name:
            raise Invalid.field(
                "transfer_to",
                f"{account.name} has the role {role.name} and {owner.username} the role {owner.role.name}, of which neither "
                "contains the other. Give the service account another role first.",
            )
        role = role if name == role.name else owner.role
    return role.name


def _revoke(actor: Principal, account: ServiceAccount) -> None:
    """Revoke all tokens of an account and disable it. What it was called and did stays to be read."""
    for token in account.tokens.filter(revoked_at=None):
        tokens.revoke_token(actor=actor, token=token)
    service_accounts.update_service_account(actor=actor, account=account, active=False)
