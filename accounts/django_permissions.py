"""The permission of SkyAuth that each permission of the Django admin requires."""

from typing import Final

from rbac.permissions import Permission

# One that is not listed requires the admin role.
DJANGO_PERMISSIONS: Final[dict[str, Permission]] = {
    "audit.view_entry": Permission.AUDIT_READ,
    "rbac.view_role": Permission.ROLES_READ,
    "rbac.view_route": Permission.ROUTES_READ,
    "accounts.view_user": Permission.USERS_READ,
    "accounts.view_grouprole": Permission.ROLES_READ,
    "accounts.view_serviceaccount": Permission.SERVICE_ACCOUNTS_READ,
    "accounts.view_token": Permission.SERVICE_ACCOUNTS_READ,
    **{f"rbac.{verb}_role": Permission.ROLES_WRITE for verb in ("add", "change", "delete")},
    **{f"rbac.{verb}_route": Permission.ROUTES_WRITE for verb in ("add", "change", "delete")},
    **{f"accounts.{verb}_user": Permission.USERS_WRITE for verb in ("add", "change", "delete")},
    **{f"accounts.{verb}_grouprole": Permission.ROLES_WRITE for verb in ("add", "change", "delete")},
    **{f"accounts.{verb}_serviceaccount": Permission.SERVICE_ACCOUNTS_WRITE for verb in ("add", "change", "delete")},
    **{f"accounts.{verb}_token": Permission.SERVICE_ACCOUNTS_WRITE for verb in ("add", "change")},
}
