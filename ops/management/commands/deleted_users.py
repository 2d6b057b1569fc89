from typing import Any

from django.core.management.base import CommandParser

from accounts.models import DeletedUser
from accounts.services import deleted_users
from ops import base

_COLUMNS = {
    "username": "NAME",
    "role": "ROLE BEFORE",
    "blocked": "BLOCKED",
    "deleted_at": "DELETED",
    "deleted_by": "DELETED BY",
}


class Command(base.Command):
    help = """List deleted users who can return through single sign-on, and block or unblock their names.

Single sign-on refuses a blocked name. For any other name, SkyAuth creates the user again at their next request, with
at most the role from before or a role of their groups."""
    examples = ("deleted_users", "deleted_users --block eve@example.com", "deleted_users --unblock eve@example.com --json")

    def add_arguments(self, parser: CommandParser) -> None:
        choice = parser.add_mutually_exclusive_group()
        choice.add_argument("--block", metavar="NAME", help="Block the name of this deleted user.")
        choice.add_argument("--unblock", metavar="NAME", help="Unblock the name of this deleted user.")

    def act(self, *, block: str | None, unblock: str | None, **_: Any) -> None:
        name = block or unblock
        if name is not None:
            rows = [deleted_users.set_blocked(actor=self.actor, username=name, blocked=block is not None)]
        else:
            rows = list(DeletedUser.objects.all())
        values = [{key: getattr(row, key) for key in _COLUMNS} for row in rows]
        self.print_rows(values, _COLUMNS, nothing="There are no deleted users who can return through single sign-on.")
