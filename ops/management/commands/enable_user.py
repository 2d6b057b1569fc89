from typing import Any

from django.core.management.base import CommandParser

from accounts.services import users
from accounts.services.sign_in_warnings import warning_about
from ops import base, rows


class Command(base.Command):
    help = "Enable a disabled user again, with the role from before. Counted wrong passwords of the user are deleted."
    examples = ("enable_user bob@example.com",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="The username or id.")

    def act(self, *, name: str, **_: Any) -> None:
        row = users.set_active(actor=self.actor, user=users.find_user(name), active=True)
        if self.as_json:
            self.print_json(rows.user(row))
            return
        self.say(f"{row.username} is enabled, with the role {row.role.name}.")
        if warning := warning_about(row):
            self.say(f"Warning: {warning}")
