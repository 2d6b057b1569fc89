"""SkyPilot knows three roles, SkyAuth any number: the one function that says which of the three a caller is to SkyPilot."""

from collections.abc import Set
from typing import Final

from rbac.permissions import Permission

ROLES: Final = ("admin", "user", "viewer")


def skypilot_role(permissions: Set[str]) -> str:
    """Return "admin" for whoever holds upstream:admin, "user" for whoever holds upstream:write, and "viewer" for all others."""
    if Permission.UPSTREAM_ADMIN in permissions:
        return "admin"
    return "user" if Permission.UPSTREAM_WRITE in permissions else "viewer"
