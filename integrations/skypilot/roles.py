"""Maps permissions to the three roles of SkyPilot. SkyAuth can have any number of roles."""

from collections.abc import Set
from typing import Final

from rbac.permissions import Permission

ROLES: Final = ("admin", "user", "viewer")


def skypilot_role(permissions: Set[str]) -> str:
    """Return "admin" for permissions with upstream:admin, "user" for those with upstream:write, else "viewer"."""
    if Permission.UPSTREAM_ADMIN in permissions:
        return "admin"
    return "user" if Permission.UPSTREAM_WRITE in permissions else "viewer"
