from typing import Any

from django.core.management.base import CommandParser

from accounts import group_names
from accounts.filters import GroupRoleFilterSet
from accounts.models import GroupRole
from ops import base, filtering, rows


class Command(base.Command):
    help = "List which role each group of the identity provider gives. The group with the lowest priority number decides."
    examples = ("list_group_roles", "list_group_roles --role admin --json")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--search", metavar="TEXT", help="Only groups with these words in the name.")
        parser.add_argument("--role", metavar="ROLE", help="Only groups that give this role.")

    def act(self, *, search: str | None, role: str | None, **_: Any) -> None:
        groups = GroupRole.objects.select_related("role")
        listed = [rows.group_role(row) for row in filtering.filtered(GroupRoleFilterSet, groups, search=search, role=role)]
        self.print_rows(listed, {"priority": "PRIORITY", "group": "GROUP", "role": "ROLE"}, nothing="No groups match.")
        if listed and (unread := group_names.unread_reason()):
            self.say(f"Warning: {unread}")
