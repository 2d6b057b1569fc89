"""The permissions, `resource:action`, sorted. A role has some of them; the role `admin` has all."""

from collections.abc import Iterable
from enum import StrEnum


# A new permission also needs a text in MEANINGS and a place in `dashboard.access.PERMISSION_GROUPS`.
class Permission(StrEnum):
    """One permission of a role. `docs/permissions.md` is generated from these names and `MEANINGS`."""

    ADMIN_SITE_USE = "admin-site:use"
    AUDIT_READ = "audit:read"
    METRICS_READ = "metrics:read"
    PASSWORD_OWN = "password:own"  # noqa: S105 - a name, not a secret
    POLICY_EXPLAIN = "policy:explain"
    ROLES_READ = "roles:read"
    ROLES_WRITE = "roles:write"
    ROUTES_READ = "routes:read"
    ROUTES_WRITE = "routes:write"
    SERVICE_ACCOUNTS_OWN = "service-accounts:own"
    SERVICE_ACCOUNTS_READ = "service-accounts:read"
    SERVICE_ACCOUNTS_WRITE = "service-accounts:write"
    UPSTREAM_ADMIN = "upstream:admin"
    UPSTREAM_PUBLIC = "upstream:public"
    UPSTREAM_READ = "upstream:read"
    UPSTREAM_WRITE = "upstream:write"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"


MEANINGS: dict[Permission, str] = {
    Permission.ADMIN_SITE_USE: "Open the Django admin. The other permissions decide what you can do there.",
    Permission.AUDIT_READ: "Read the audit log.",
    Permission.METRICS_READ: "Read the Prometheus metrics.",
    Permission.PASSWORD_OWN: "Change your own password.",
    Permission.POLICY_EXPLAIN: "Explain whether a request of any caller would be allowed, and why.",
    Permission.ROLES_READ: "Read roles and group roles.",
    Permission.ROLES_WRITE: "Change roles and group roles.",
    Permission.ROUTES_READ: "Read the routes of the protected APIs.",
    Permission.ROUTES_WRITE: "Change the routes of the protected APIs.",
    Permission.SERVICE_ACCOUNTS_OWN: "Create and manage your own service accounts and their tokens.",
    Permission.SERVICE_ACCOUNTS_READ: "Read all service accounts and the metadata of their tokens.",
    Permission.SERVICE_ACCOUNTS_WRITE: "Create and manage all service accounts and their tokens.",
    Permission.UPSTREAM_ADMIN: "Send requests that the routes of a protected API reserve for administrators.",
    Permission.UPSTREAM_PUBLIC: "Send requests that need no sign-in. Every caller has it, also without a credential.",
    Permission.UPSTREAM_READ: "Send requests that the routes of a protected API classify as reading.",
    Permission.UPSTREAM_WRITE: "Send requests that the routes of a protected API classify as writing.",
    Permission.USERS_READ: "Read users and their roles.",
    Permission.USERS_WRITE: "Create, change and delete users.",
}

ADMIN = "admin"
FIRST_ADMIN = "first-admin"  # no role: the value of RBAC_DEFAULT_ROLE that makes the first user an admin
EVERYTHING: frozenset[str] = frozenset(Permission)
PUBLIC: frozenset[str] = frozenset({Permission.UPSTREAM_PUBLIC})
UPSTREAM: frozenset[str] = frozenset(p for p in Permission if p.startswith("upstream:"))
# With one of these, a user decides what others are allowed to do, or calls what a protected API reserves for administrators.
ADMINISTRATIVE: frozenset[str] = frozenset(
    {
        Permission.ROLES_WRITE,
        Permission.ROUTES_WRITE,
        Permission.SERVICE_ACCOUNTS_WRITE,
        Permission.UPSTREAM_ADMIN,
        Permission.USERS_WRITE,
    }
)


def cap_to_owner(role: str, held: frozenset[str], owner_role: str, owners: frozenset[str]) -> tuple[str, frozenset[str]]:
    """Return the role and the permissions of a service account, limited to those of its owner (ADR 0004).

    An upstream may decide by the role that it receives, so the role is limited too: to the owner's role if that has fewer
    permissions, and to "" if no role describes the permissions.
    """
    if held <= owners:
        return role, held
    return (owner_role if owners <= held else ""), held & owners


def effective_permissions(role: str, names: Iterable[str]) -> frozenset[str]:
    """Return the effective permissions of a role: all for `admin`, else the existing ones of these names and the public one.

    An unknown name is ignored, so a misspelt or retired permission can only deny.
    """
    return EVERYTHING if role == ADMIN else (EVERYTHING & frozenset(names)) | PUBLIC
