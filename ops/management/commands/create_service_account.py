from typing import Any

from django.core.management.base import CommandParser

from accounts.models import User
from accounts.services import service_accounts, users
from core.errors import Invalid
from ops import base, rows


class Command(base.Command):
    help = "Create a service account. To create a token for it, use create_token."
    examples = (
        "create_service_account pipeline --role user --owner bob@example.com --description 'nightly build'",
        "create_service_account backup --role viewer",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="The name: letters, digits and . _ -, starting with a letter.")
        parser.add_argument("--role", metavar="ROLE", help="The role. Default: user, or RBAC_DEFAULT_ROLE if that is less.")
        owner = parser.add_mutually_exclusive_group()
        owner.add_argument("--owner", metavar="NAME", help="The user who owns it. It never has more permissions than its owner.")
        owner.add_argument("--no-owner", action="store_true", help="Create it without an owner. This is the default.")
        parser.add_argument("--description", metavar="TEXT", default="", help="A description.")

    def act(self, *, name: str, role: str | None, owner: str | None, description: str, **_: Any) -> None:
        row = service_accounts.create_service_account(
            actor=self.actor,
            name=name,
            role=role,
            description=description,
            owner=None if owner is None else _owner(owner),
            unowned=owner is None,
        )
        if self.as_json:
            self.print_json(rows.service_account(row))
            return
        self.say(f"Service account {row.name} ({row.uid}) created with the role {row.role.name}.")
        self.say(f"To create a token, run: manage.py create_token {row.name}")


def _owner(name: str) -> User:
    """Return the user of this name or id. Raises Invalid for an empty name, as of a variable that is not set, and NotFound."""
    if not name:
        raise Invalid.field("owner", "The owner is empty. Name a user, or use --no-owner.")
    return users.find_user(name)
