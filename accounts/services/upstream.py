"""Which changes of users and service accounts the upstream must accept first: the loss of `upstream:admin`, and deletions.

A SkyPilot API server refuses them while the user owns clusters or jobs that nobody else could reach (`core.agreement`).
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from accounts.models import ServiceAccount, User
from accounts.principal_lookup import require_unchanged
from core import agreement
from core.agreement import CallerChange
from core.errors import ServiceError
from rbac.models import Role
from rbac.permissions import Permission
from rbac.principals import Principal


def require_user_role(actor: Principal, user: User, before: Role, new: Role) -> None:
    """Return if the upstream accepts the new role of a user and what it takes from their service accounts.

    Call it before the change is saved. Raises ServiceError.
    """
    owned = ServiceAccount.objects.filter(owner=user).select_related("role") if loses_admin(before.holds, new.holds) else ()
    _require(actor, *user_role_changes(user, before.holds, new.holds, owned))


def user_role_changes(
    user: User, before: frozenset[str], after: frozenset[str], owned: Iterable[ServiceAccount]
) -> list[CallerChange]:
    """Return what the upstream must accept of a user's new permissions; `owned` are the user's service accounts."""
    if not loses_admin(before, after):
        return []
    changes = [CallerChange(user.username, after)]
    for account in owned:
        held = account.role.holds
        if loses_admin(held & before, held & after):
            changes.append(CallerChange(account.upstream_name, held & after))
    return changes


def refusals(actor: Principal, changes: Iterable[CallerChange]) -> Mapping[CallerChange, ServiceError]:
    """Return the changes that the upstream refuses, each with its error. Raises NotAsked."""
    return agreement.refusals(*changes, check=_check(actor))


def require_account_permissions(actor: Principal, account: ServiceAccount, before: frozenset[str]) -> None:
    """Return if the upstream accepts the new permissions of an account that had those in `before`. Raises ServiceError.

    Call it before the account is saved.
    """
    if change := account_change(account, before):
        _require(actor, change)


def account_change(account: ServiceAccount, before: frozenset[str]) -> CallerChange | None:
    """Return what the upstream must accept of an account that had the permissions in `before`, or None."""
    after = effective_permissions(account)
    return CallerChange(account.upstream_name, after) if loses_admin(before, after) else None


def effective_permissions(account: ServiceAccount) -> frozenset[str]:
    """Return the permissions of an account, limited to its owner's, whether or not the two are active."""
    return account.role.holds if account.owner is None else account.role.holds & account.owner.role.holds


def require_deletion(actor: Principal, row: User | ServiceAccount) -> None:
    """Return if the upstream accepts that the user or service account is deleted. Raises ServiceError."""
    _require(actor, CallerChange(row.username if isinstance(row, User) else row.upstream_name, None))


def _require(actor: Principal, *changes: CallerChange) -> None:
    agreement.require(*changes, check=_check(actor))


def _check(actor: Principal) -> Callable[[], None]:
    message = "Your permissions were reduced while the SkyPilot API server was asked, so nothing was changed."
    return partial(require_unchanged, actor, message)


def loses_admin(before: frozenset[str], after: frozenset[str]) -> bool:
    """Return whether a change of permissions from `before` to `after` takes `upstream:admin` away."""
    return Permission.UPSTREAM_ADMIN in before and Permission.UPSTREAM_ADMIN not in after
