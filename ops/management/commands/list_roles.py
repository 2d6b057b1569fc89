from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Count

from accounts.models import GroupRole, ServiceAccount, User
from ops import base, filtering, rows
from rbac.filters import RoleFilterSet
from rbac.models import Role

_COLUMNS = {
    "name": "NAME",
    "users": "USERS",
    "service_accounts": "SERVICE ACCOUNTS",
    "group_roles": "GROUPS",
    "description": "DESCRIPTION",
}


class Command(base.Command):
    help = "List roles, and how many users, service accounts and groups have each. --json and --permissions show permissions."
    examples = ("list_roles", "list_roles --permissions", "list_roles --search deploy --json")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--search", metavar="TEXT", help="Only roles with these words in the name or the description.")
        parser.add_argument("--permissions", action="store_true", help="Show one line for each role and permission instead.")

    def act(self, *, search: str | None, permissions: bool, **_: Any) -> None:
        holders = {
            key: dict(model.objects.order_by().values_list("role").annotate(Count("pk")))
            for key, model in (("users", User), ("service_accounts", ServiceAccount), ("group_roles", GroupRole))
        }
        listed = [
            rows.role(role) | {key: counts.get(role.pk, 0) for key, counts in holders.items()}
            for role in filtering.filtered(RoleFilterSet, Role.objects.all(), search=search)
        ]
        if permissions and not self.as_json:
            self.print_table(["ROLE", "PERMISSION"], [(row["name"], name) for row in listed for name in row["permissions"]])
        else:
            self.print_rows(listed, _COLUMNS, nothing="No roles match.")
