"""The rules for service accounts, without queries: `service_accounts` applies them to one account, `account_batch` to many.

Each account has its role, its owner and the owner's role loaded, as stored now.
"""

from dataclasses import dataclass
from typing import Any

from accounts.identifiers import BadName, new_account_name
from accounts.models import ServiceAccount, User
from accounts.shared_credential import shared_hash
from core.errors import Conflict, Forbidden, Invalid
from rbac.models import Role
from rbac.permissions import Permission
from rbac.principals import Principal
from rbac.services import require_all
from rbac.validation import validate_fields


@dataclass(frozen=True, slots=True)
class AccountChange:
    """New values of an account; None keeps a value. `unowned` takes the owner away."""

    role: Role | None = None
    active: bool | None = None
    description: str | None = None
    owner: User | None = None
    unowned: bool = False


def require_change(actor: Principal, account: ServiceAccount) -> None:
    """Raise Forbidden unless the actor can manage this account: all, or the actor's own."""
    if actor.holds(Permission.SERVICE_ACCOUNTS_WRITE):
        return
    if actor.holds(Permission.SERVICE_ACCOUNTS_OWN) and actor.owner is not None and account.owner_id == actor.owner:
        effective = account.role.holds & account.owner.role.holds  # type: ignore[union-attr]
        require_all(actor, effective, f"manage {account.name}")  # the actor may be another service account of the owner
        return
    raise Forbidden("You can only manage your own service accounts.")


def require_creation(actor: Principal, owner: User | None) -> None:
    """Raise Forbidden unless the actor can create an account with this owner."""
    if actor.holds(Permission.SERVICE_ACCOUNTS_WRITE):
        return
    require_any_creation(actor)
    if owner is None or owner.pk != actor.owner:
        raise Forbidden("You can only create service accounts that you own.")


def require_any_creation(actor: Principal) -> None:
    """Raise Forbidden unless the actor can create an account at all."""
    if not actor.holds(Permission.SERVICE_ACCOUNTS_WRITE) and not actor.holds(Permission.SERVICE_ACCOUNTS_OWN):
        raise Forbidden("This requires the permission service-accounts:own, which your role does not have.")


def canonical_name(text: str) -> str:
    """Return the canonical name of an account to create. Raises Invalid."""
    try:
        return new_account_name(text)
    except BadName as error:
        raise Invalid.field("name", str(error)) from None


def require_free_name(name: str, *, is_account: bool, is_user: bool) -> None:
    """Raise Conflict for a canonical name that an account, a user or the shared password has."""
    if is_account:
        message = f"Service account {name!r} already exists."
        raise Conflict(message, fields={"name": [message]})
    if is_user or shared_hash(name) is not None:
        raise Conflict(f"The name {name!r} is taken by a user or the shared password.", fields={"name": ["This name is taken."]})


def require_active_owner(owner: User, *, field: str) -> None:
    """Raise Invalid for a disabled user: their accounts do not work, and nobody would look at them again."""
    if not owner.is_active:
        raise Invalid.field(field, f"{owner.username} is disabled. Name a user who is active.")


def require_within_owner(account: ServiceAccount) -> None:
    """Raise Invalid if the role has more permissions than the owner."""
    if account.owner is not None and not account.role.holds <= account.owner.role.holds:
        raise Invalid.field(
            "role",
            f"The owner {account.owner.username} has fewer permissions than the role {account.role.name}. "
            "Choose a role with fewer permissions, another owner, or no owner.",
        )


def new_account(*, actor: Principal, name: str, uid: str, role: Role, owner: User | None, description: str) -> ServiceAccount:
    """Return the row of a new account with this free name. Raises Forbidden, Invalid."""
    require_all(actor, role.holds, f"give the role {role.name}")
    account = ServiceAccount(name=name, uid=uid, description=description, owner=owner, created_by=actor.name, role=role)
    require_within_owner(account)
    validate_fields(account, exclude=("role", "owner"))
    return account


def creation(account: ServiceAccount) -> dict[str, Any]:
    """Return the data of the audit entry of a new account."""
    return {"uid": account.uid, "role": account.role.name, "owner": account.owner.username if account.owner else None}


def change(actor: Principal, account: ServiceAccount, new: AccountChange) -> dict[str, Any] | None:
    """Change the row, and return the data of the audit entry, or None if nothing changes. Raises Forbidden, Invalid."""
    before = account_values(account)
    is_capped = account.owner is not None and not account.role.holds <= account.owner.role.holds
    account.role = new.role or account.role
    if new.owner is not None or new.unowned:
        _set_owner(actor, account, new, is_capped=is_capped)
    account.is_active = account.is_active if new.active is None else new.active
    account.description = account.description if new.description is None else new.description
    if new.owner is not None:
        require_all(actor, new.owner.role.holds, f"give service accounts to {new.owner.username}")
    if new.role is not None or new.active or new.owner is not None or new.unowned:
        require_all(actor, account.role.holds, f"give {account.name} the role {account.role.name}")
        require_within_owner(account)
    if new.description is not None:
        validate_fields(account, exclude=("role", "owner"))
    after = account_values(account)
    return None if after == before else {"old": before, "new": after}


def _set_owner(actor: Principal, account: ServiceAccount, new: AccountChange, *, is_capped: bool) -> None:
    if not actor.holds(Permission.SERVICE_ACCOUNTS_WRITE):
        raise Forbidden("To change the owner of a service account you need the permission service-accounts:write.")
    if is_capped and new.role is None:
        raise Invalid.field(
            "role", f"The owner limits {account.name} to less than its role {account.role.name}. Choose its role."
        )
    if new.owner is not None and new.owner.pk != account.owner_id:
        require_active_owner(new.owner, field="owner")
    account.owner = new.owner


def account_values(account: ServiceAccount) -> dict[str, str | bool | None]:
    """Return what can be changed of an account, by the names that the audit log has."""
    return {
        "role": account.role.name,
        "active": account.is_active,
        "description": account.description,
        "owner": account.owner.username if account.owner else None,
    }
