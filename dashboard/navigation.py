"""The navigation. Users see the sections that their role opens, and no others."""

from dataclasses import dataclass
from typing import Final

from django.urls import reverse

from rbac.permissions import Permission
from rbac.principals import Principal


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the dashboard. `name` is also the name of its icon; any one of the permissions in `needs` opens it."""

    name: str
    title: str
    page: str
    needs: tuple[Permission, ...] = ()


SECTIONS: Final = (
    Section("home", "Home", "dashboard:home"),
    Section("users", "Users", "dashboard:users", (Permission.USERS_READ,)),
    Section(
        "service-accounts",
        "Service accounts",
        "dashboard:service-accounts",
        (Permission.SERVICE_ACCOUNTS_READ, Permission.SERVICE_ACCOUNTS_WRITE, Permission.SERVICE_ACCOUNTS_OWN),
    ),
    Section("access", "Access", "dashboard:access"),
    Section("audit", "Audit", "dashboard:audit", (Permission.AUDIT_READ,)),
    Section("sessions", "Sessions", "dashboard:sessions"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Link:
    """An entry of the navigation, or a tab."""

    name: str
    title: str
    url: str


def links(principal: Principal) -> list[Link]:
    """Return the navigation entries for this user."""
    return [
        Link(section.name, section.title, reverse(section.page))
        for section in SECTIONS
        if not section.needs or any(principal.holds(permission) for permission in section.needs)
    ]
