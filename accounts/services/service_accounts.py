"""Services for service accounts: an admin manages all, a user with `service-accounts:own` their own."""

from django.db import transaction
from django.db.models import QuerySet

from accounts.identifiers import account_uid
from accounts.models import ServiceAccount, User
from accounts.services import account_rules, upstream
from accounts.services.account_batch import AccountBatch
from accounts.services.account_rules import AccountChange
from accounts.services.prepared import Dependencies, prepare_first
from accounts.services.role_defaults import least_role
from accounts.services.users import get_user
from audit.events import Event
from audit.record import record
from core.agreement import asks_first
from core.errors import Forbidden, NotFound
from rbac.permissions import Permission
from rbac.principals import Principal
from rbac.services import get_role, lock_policy
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


def locked(actor: Principal, account: ServiceAccount) -> ServiceAccount:
    """Take the policy lock and return the account as stored now, if the actor can manage it. Raises NotFound, Forbidden."""
    lock_policy()
    account = get_account(actor, account.uid)
    account_rules.require_change(actor, account)
    return account


def new_owner(owner: User, *, field: str) -> User:
    """Return the user who gets a service account, as stored now. Call it under `lock_policy`.

    Raises NotFound, and Invalid for a disabled user: their accounts do not work, and nobody would look at them again.
    """
    stored = get_user(owner.uid)
    account_rules.require_active_owner(stored, field=field)
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
    account_rules.require_any_creation(actor)
    lock_policy()
    if owner is None and not unowned and actor.owner is not None:
        owner = User.objects.select_related("role").filter(pk=actor.owner).first()
        if owner is None:
            raise Forbidden("Your user was deleted.")
    account_rules.require_creation(actor, owner)
    if owner is not None:
        owner = new_owner(owner, field="owner")
    account_role = least_role(actor, owner.role if owner else None) if role is None else get_role(role)
    account = account_rules.new_account(
        actor=actor, name=_free_name(name), uid=account_uid(), role=account_role, owner=owner, description=description
    )
    validate(account)
    account.save()
    record(Event.SERVICE_ACCOUNT_CREATED, actor=actor, target=account.name, data=account_rules.creation(account))
    return account


def _free_name(text: str) -> str:
    """Return the canonical name, which no account, user or shared password has. Raises Invalid, Conflict."""
    name = account_rules.canonical_name(text)
    account_rules.require_free_name(
        name,
        is_account=ServiceAccount.objects.filter(name=name).exists(),
        is_user=User.objects.filter(username=name).exists(),
    )
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
    held = upstream.effective_permissions(account)
    new_role = None if role is None else get_role(role)
    if owner is not None:
        owner = account.owner if owner.pk == account.owner_id else get_user(owner.uid)
    change = AccountChange(new_role, active, description, owner, unowned)
    data = account_rules.change(actor, account, change)
    if data is not None:
        upstream.require_account_permissions(actor, account, held)
        account.save()
        record(Event.SERVICE_ACCOUNT_UPDATED, actor=actor, target=account.name, data=data)
    return account


@asks_first
def delete_service_account(*, actor: Principal, account: ServiceAccount) -> None:
    """Delete an account with all its tokens. Raises Forbidden, NotFound."""

    def prepare() -> tuple[AccountBatch, Dependencies]:
        batch = AccountBatch(actor)
        batch.delete(get_account(actor, account.uid))
        return batch.prepare(), batch.dependencies

    prepare_first(prepare, AccountBatch.write)
