"""Services for service accounts: an admin manages all, a user with `service-accounts:own` their own."""

from django.db import transaction
from django.db.models import QuerySet

from accounts.identifiers import BadName, account_uid, new_account_name
from accounts.models import ServiceAccount, User
from accounts.services import upstream
from accounts.services.role_defaults import least_role
from accounts.services.users import get_user
from accounts.shared_credential import shared_hash
from audit.events import Event
from audit.record import record
from core.agreement import asks_first
from core.errors import Conflict, Forbidden, Invalid, NotFound
from rbac.permissions import Permission
from rbac.principals import Principal
from rbac.services import get_role, lock_policy, require_all
from rbac.validation import validate


def sees_all(actor: Principal) -> bool:
    """Return whether the actor can see all service accounts."""
    return actor.holds(Permission.SERVICE_ACCOUNTS_READ) or actor.holds(Permission.SERVICE_ACCOUNTS_WRITE)


def visible(actor: Principal) -> QuerySet[ServiceAccount]:
    """Return the accounts that the actor can see: all, its own, or none."""
    accounts = ServiceAccount.objects.select_related("role", "owner", "owner__role")
    if sees_all(actor):
        return accounts
    if actor.holds(Permission.SERVICE_ACCOUNTS_OWN) and actor.owner is not None:
        return accounts.filter(owner=actor.owner)
    return accounts.none()


def get_account(actor: Principal, uid_or_name: str) -> ServiceAccount:
    """Return the account with this id or name, if the actor can see it. Raises NotFound."""
    account = visible(actor).filter(uid=uid_or_name).first() or visible(actor).filter(name=uid_or_name.lower()).first()
    if account is None:
        raise NotFound(f"There is no service account {uid_or_name!r}.")
    return account


def require_change(actor: Principal, account: ServiceAccount) -> None:
    """Raise Forbidden unless the actor can manage this account: all, or the actor's own."""
    if actor.holds(Permission.SERVICE_ACCOUNTS_WRITE):
        return
    if actor.holds(Permission.SERVICE_ACCOUNTS_OWN) and actor.owner is not None and account.owner_id == actor.owner:
        effective = account.role.holds & account.owner.role.holds  # type: ignore[union-attr]
        require_all(actor, effective, f"manage {account.name}")  # the actor may be another service account of the owner
        return
    raise Forbidden("You can only manage your own service accounts.")


def locked(actor: Principal, account: ServiceAccount) -> ServiceAccount:
    """Take the policy lock and return the account as stored now, if the actor can manage it. Raises NotFound, Forbidden."""
    lock_policy()
    account = get_account(actor, account.uid)
    require_change(actor, account)
    return account


def _require_within_owner(account: ServiceAccount) -> None:
    """Raise Invalid if the role has more permissions than the owner."""
    if account.owner is not None and not account.role.holds <= account.owner.role.holds:
        raise Invalid.field(
            "role",
            f"The owner {account.owner.username} has fewer permissions than the role {account.role.name}. "
            "Choose a role with fewer permissions, another owner, or no owner.",
        )


def new_owner(owner: User, *, field: str) -> User:
    """Return the user who gets a service account, as stored now. Call it under `lock_policy`.

    Raises NotFound, and Invalid for a disabled user: their accounts do not work, and nobody would look at them again.
    """
    stored = get_user(owner.uid)
    if not stored.is_active:
        raise Invalid.field(field, f"{stored.username} is disabled. Name a user who is active.")
    return stored


@transaction.atomic
def create_service_account(
    *,
    actor: Principal,
    name: str,
    role: str | None = None,
    description: str = "",
    owner: User | None = None,
    unowned: bool = False,
) -> ServiceAccount:
    """Create and return an account. Its owner is the actor unless there is another `owner` or it is `unowned`.

    Without a role it gets the role `user` or less, see `least_role`. Raises Forbidden, Invalid, Conflict.
    """
    manages_all = actor.holds(Permission.SERVICE_ACCOUNTS_WRITE)
    if not manages_all and not actor.holds(Permission.SERVICE_ACCOUNTS_OWN):
        raise Forbidden("This requires the permission service-accounts:own, which your role does not have.")
    lock_policy()
    if owner is None and not unowned and actor.owner is not None:
        owner = User.objects.select_related("role").filter(pk=actor.owner).first()
        if owner is None:
            raise Forbidden("Your user was deleted.")
    if not manages_all and (owner is None or owner.pk != actor.owner):
        raise Forbidden("You can only create service accounts that you own.")
    if owner is not None:
        owner = new_owner(owner, field="owner")
    account_role = least_role(actor, owner.role if owner else None) if role is None else get_role(role)
    require_all(actor, account_role.holds, f"give the role {account_role.name}")
    account = ServiceAccount(
        name=_free_name(name),
        uid=account_uid(),
        description=description,
        owner=owner,
        created_by=actor.name,
        role=account_role,
    )
    _require_within_owner(account)
    validate(account)
    account.save()
    data = {"uid": account.uid, "role": account_role.name, "owner": owner.username if owner else None}
    record(Event.SERVICE_ACCOUNT_CREATED, actor=actor, target=account.name, data=data)
    return account


def _free_name(text: str) -> str:
    """Return the canonical name, which no account, user or shared password has. Raises Invalid, Conflict."""
    try:
        name = new_account_name(text)
    except BadName as error:
        raise Invalid.field("name", str(error)) from None
    if ServiceAccount.objects.filter(name=name).exists():
        message = f"Service account {name!r} already exists."
        raise Conflict(message, fields={"name": [message]})
    if User.objects.filter(username=name).exists() or shared_hash(name) is not None:
        raise Conflict(f"The name {name!r} is taken by a user or the shared password.", fields={"name": ["This name is taken."]})
    return name


@asks_first
@transaction.atomic
def update_service_account(
    *,
    actor: Principal,
    account: ServiceAccount,
    role: str | None = None,
    active: bool | None = None,
    description: str | None = None,
    owner: User | None = None,
    unowned: bool = False,
) -> ServiceAccount:
    """Change and return an account; None keeps a value. The owner can only be changed with `service-accounts:write`.

    Raises Forbidden, Invalid, NotFound.
    """
    account = locked(actor, account)
    before, held = account_values(account), upstream.effective_permissions(account)
    if role is not None:
        account.role = get_role(role)
    if owner is not None or unowned:
        owner = _set_owner(actor, account, owner, role_is_named=role is not None)
    if active is not None:
        account.is_active = active
    if description is not None:
        account.description = description
    if owner is not None:
        require_all(actor, owner.role.holds, f"give service accounts to {owner.username}")
    if role is not None or active or owner is not None or unowned:
        require_all(actor, account.role.holds, f"give {account.name} the role {account.role.name}")
        _require_within_owner(account)
    validate(account)
    after = account_values(account)
    if after != before:
        upstream.require_account_permissions(actor, account, held)
        account.save()
        record(Event.SERVICE_ACCOUNT_UPDATED, actor=actor, target=account.name, data={"old": before, "new": after})
    return account


def _set_owner(actor: Principal, account: ServiceAccount, owner: User | None, *, role_is_named: bool) -> User | None:
    """Set the owner of the row, without saving it, and return the owner as stored now. Raises Forbidden, Invalid, NotFound."""
    if not actor.holds(Permission.SERVICE_ACCOUNTS_WRITE):
        raise Forbidden("To change the owner of a service account you need the permission service-accounts:write.")
    is_capped = account.owner is not None and not account.role.holds <= account.owner.role.holds
    if is_capped and not role_is_named:
        raise Invalid.field(
            "role", f"The owner limits {account.name} to less than its role {account.role.name}. Choose its role."
        )
    if owner is not None and owner.pk != account.owner_id:
        owner = new_owner(owner, field="owner")
    account.owner = owner
    return owner


def account_values(account: ServiceAccount) -> dict[str, str | bool | None]:
    """Return what can be changed of an account, by the names that the audit log has."""
    return {
        "role": account.role.name,
        "active": account.is_active,
        "description": account.description,
        "owner": account.owner.username if account.owner else None,
    }


@asks_first
@transaction.atomic
def delete_service_account(*, actor: Principal, account: ServiceAccount) -> None:
    """Delete an account with all its tokens. Raises Forbidden, NotFound."""
    account = locked(actor, account)
    data = {"uid": account.uid, "tokens": list(account.tokens.values_list("key_id", flat=True))}
    upstream.require_deletion(actor, account)
    account.delete()
    record(Event.SERVICE_ACCOUNT_DELETED, actor=actor, target=account.name, data=data)
