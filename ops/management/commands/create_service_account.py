from typing import Any

from django.core.management.base import CommandParser

from accounts.services import service_accounts, users
from ops import base, rows


class Command(base.Command):
    help = "Create a service account. It has no token yet: create_token makes one."
    examples = (
        "create_service_account pipeline --role user --owner bob@example.com --description 'nightly build'",
        "create_service_account backup --role viewer",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="Letters, digits and . _ -, beginning with a letter.")
        parser.add_argument("--role", metavar="ROLE", help="The role; without it, the default one, but never admin.")
        owner = parser.add_mutually_exclusive_group()
        owner.add_argument("--owner", metavar="NAME", help="The user whose account it is; it never does more than they may.")
        owner.add_argument("--no-owner", action="store_true", help="Nobody owns it, which is also what happens without --owner.")
        parser.add_argument("--description", metavar="TEXT", default="", help="What it is for.")

    def act(self, *, name: str, role: str | None, owner: str | None, description: str, **_: Any) -> None:
        row = service_accounts.create_service_account(
            actor=self.actor,
            name=name,
            role=role,
            description=description,
            owner=users.find_user(owner) if owner else None,
            unowned=owner is None,
        )
        if self.as_json:
            self.print_json(rows.service_account(row))
            return
        self.say(f"Created the service account {row.name} ({row.uid}) with the role {row.role.name}.")
        self.say(f"Make a token for it with: manage.py create_token {row.name}")
