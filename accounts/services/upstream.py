"""Which changes of users and service accounts the upstream must accept first: the loss of `upstream:admin`, and deletions.

A SkyPilot API server refuses them while the user owns clusters or jobs that nobody else could reach (`core.agreement`).
"""

from functools import partial

from accounts.models import ServiceAccount, User
from accounts.principal_lookup import require_unchanged
from core import agreement
from core.agreement import CallerChange
from rbac.models import Role
from rbac.permissions import Permission
from rbac.principals import Principal


def require_user_role(actor: Principal, user: User, new: Role) -> None:
    """Return if the upstream accepts the new role of a user and what it takes from their service accounts.

    Call it before the change. Raises ServiceError.
    """
    before, after = user.role.holds, new.holds
    changes = []
    if _loses_admin(before, after):
        changes.append(CallerChange(user.username, after))
        for account in ServiceAccount.objects.filter(owner=user).select_related("role"):
            held = account.role.holds
            if _loses_admin(held & before, held & after):
                changes.append(CallerChange(account.upstream_name, held & after))
    _require(actor, *changes)


def require_account_permissions(actor: Principal, account: ServiceAccount, before: frozenset[str]) -> None:
    """Return if the upstream accepts the new permissions of an account that had those in `before`. Raises ServiceError.

    Call it before the account is saved.
    """
    after = effective_permissions(account)
    if _loses_admin(before, after):
        _require(actor, CallerChange(account.upstream_name, after))


def effective_permissions(account: ServiceAccount) -> frozenset[str]:
    """Return the permissions of an account, limited to its owner's, whether or not the two are active."""
    return account.role.holds if account.owner is None else account.role.holds & account.owner.role.holds


def require_deletion(actor: Principal, row: User | ServiceAccount) -> None:
    """Return if the upstream accepts that the user or service account is deleted. Raises ServiceError."""
    _require(actor, CallerChange(row.username if isinstance(row, User) else row.upstream_name, None))


def _require(actor: Principal, *changes: CallerChange) -> None:
    message = "Your permissions were reduced while the SkyPilot API server was asked, so nothing was changed."
    agreement.require(*changes, check=partial(require_unchanged, actor, message))


def _loses_admin(before: frozenset[str], after: frozenset[str]) -> bool:
    return Permission.UPSTREAM_ADMIN in before and Permission.UPSTREAM_ADMIN not in after
