"""Which changes of users and service accounts the upstream must accept first: the loss of `upstream:admin`, and deletions.

A SkyPilot API server refuses them while the user owns clusters or jobs that nobody else could reach (`core.agreement`).
"""

from accounts.models import ServiceAccount, User
from core import agreement
from core.agreement import CallerChange
from rbac.models import Role
from rbac.permissions import Permission


def require_user_role(user: User, new: Role) -> None:
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
    agreement.require(*changes)


def require_account_permissions(account: ServiceAccount, before: frozenset[str]) -> None:
    """Return if the upstream accepts the new permissions of an account that had those in `before`. Raises ServiceError.

    Call it before the account is saved.
    """
    after = effective_permissions(account)
    if _loses_admin(before, after):
        agreement.require(CallerChange(account.upstream_name, after))


def effective_permissions(account: ServiceAccount) -> frozenset[str]:
    """Return the permissions of an account, limited to its owner's, whether or not the two are active."""
    return account.role.holds if account.owner is None else account.role.holds & account.owner.role.holds


def require_deletion(row: User | ServiceAccount) -> None:
    """Return if the upstream accepts that the user or service account is deleted. Raises ServiceError."""
    agreement.require(CallerChange(row.username if isinstance(row, User) else row.upstream_name, None))


def _loses_admin(before: frozenset[str], after: frozenset[str]) -> bool:
    return Permission.UPSTREAM_ADMIN in before and Permission.UPSTREAM_ADMIN not in after
